"""The LightningModules that trained the bundled weights."""

from lightning_modules.feature_net_training import FeatureNetTraining
from lightning_modules.tokenizer_training import TokenizerTraining
from lightning_modules.var_training import DraftDistillation, VARTraining

__all__ = ["DraftDistillation", "FeatureNetTraining", "TokenizerTraining", "VARTraining"]
