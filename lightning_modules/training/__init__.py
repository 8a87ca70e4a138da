"""The LightningModules that trained the bundled weights."""

from lightning_modules.training.feature_net import FeatureNetTraining
from lightning_modules.training.tokenizer import TokenizerTraining
from lightning_modules.training.var import DraftDistillation, VARTraining

__all__ = ["DraftDistillation", "FeatureNetTraining", "TokenizerTraining", "VARTraining"]
