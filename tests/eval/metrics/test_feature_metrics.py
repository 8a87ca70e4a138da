"""eval.metrics: the metrics are torch-fidelity's own, on the right images, and every invalid input is named."""

import csv

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.utils.data import Dataset, Subset

from eval.metrics.feature_metrics import measure_images as measure
from eval.metrics.features.extraction import Features, extract
from eval.metrics.features.networks import (
    BUNDLED_EXTRACTOR,
    DOWNLOAD,
    INCEPTION,
    check_feature_extractor,
    load_network,
    register_bundled_extractor,
    weights_digest,
)
from eval.metrics.images.formats import open_images
from eval.metrics.quality import frechet_distance, inception_score, kernel_distance, precision_recall
from lightning_modules.training.feature_net import FeatureNet

LAYERS = {"128": 128, "logits": 10}


class Images(Dataset):
    """Blobs whose position and brightness are the class, in memory; counts its reads."""

    def __init__(self, count, seed=0, classes=10, size=32, brightness=1.0):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, classes, (count,), generator=generator)
        pixels = torch.rand(count, 3, size, size, generator=generator) * 40
        for index, label in enumerate(self.labels.tolist()):
            row, column = 3 * (label // 4) + 2, 7 * (label % 4) + 2
            pixels[index, :, row : row + 8 + label, column : column + 7] += brightness * (60 + 12 * label)
        self.pixels = pixels.clamp(0, 255).to(torch.uint8)
        self.reads = 0

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        self.reads += 1
        return self.pixels[index]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The feature network after a few steps on the blobs: independent of the bundled weights."""
    torch.manual_seed(0)
    net, blobs = FeatureNet(), Images(640, seed=9)
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    for step in range(30):
        batch = slice(64 * step % 640, 64 * step % 640 + 64)
        logits = net(blobs.pixels[batch].float() / 127.5 - 1)[1]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, blobs.labels[batch]).backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("weights") / "feature_net.safetensors"
    save_file(net.state_dict(), path)
    return path


@pytest.fixture
def options(weights):
    return {"feature_extractor": BUNDLED_EXTRACTOR, "feature_extractor_weights": weights}


def save_folder(images, folder):
    """Writes PNGs in sub-folders of 100, as a run does."""
    for index, pixels in enumerate(images.pixels):
        file = folder / f"{index // 100:03d}" / f"{index:06d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file)
    return folder


def test_measure_equals_calculate_metrics(options, weights):
    import torch_fidelity
    from torch_fidelity.defaults import DEFAULTS

    ours, other = Images(300, seed=1), Images(280, seed=2, brightness=0.8)
    keywords = {
        "cuda": torch.cuda.is_available(),
        "cache": False,
        "isc": True,
        "fid": True,
        "kid": True,
        "prc": True,
        "kid_subset_size": 140,
        "feature_extractor": BUNDLED_EXTRACTOR,
        "feature_extractor_weights_path": str(weights),
        "save_cpu_ram": True,
        "verbose": False,
    }
    assert set(keywords) <= set(DEFAULTS), "torch-fidelity would drop the rest silently"
    for metric in (inception_score, kernel_distance, precision_recall):
        assert set(metric.SETTINGS) <= set(DEFAULTS), metric.__name__
    register_bundled_extractor()
    expected = torch_fidelity.calculate_metrics(input1=ours, input2=other, **keywords)

    metrics = ["is", "fid", "kid", "prc"]
    result = measure(ours, baseline=other, reference=extract(other, **options), metrics=metrics, **options)

    pairs = {f"inception_score_{part}": f"inception_score_{part}" for part in ("mean", "std")}
    pairs |= {name: name for name in ("precision", "recall")}
    for name in ("baseline", "reference"):
        pairs[f"frechet_distance_to_{name}"] = "frechet_inception_distance"
        for part in ("mean", "std"):
            pairs[f"kernel_inception_distance_to_{name}_{part}"] = f"kernel_inception_distance_{part}"
    for name, theirs in pairs.items():
        assert result[name] == pytest.approx(expected[theirs], abs=1e-9), name
    assert result["kernel_inception_distance_to_baseline_subset_size"] == 140
    assert 0 < result["recall"] != result["precision"] > 0
    assert (result["precision_recall_against"], result["precision_recall_images"]) == ("reference", 300)


def test_precision_falls_with_foreign_images_and_recall_with_mode_collapse(options):
    real = extract(Images(300, seed=1), **options)
    foreign, collapsed = (
        extract(Images(300, seed=2, brightness=0.2), **options),
        extract(Images(300, seed=2, classes=1), **options),
    )
    of_foreign, of_collapsed = (
        measure(images, baseline=real, metrics=["prc"], **options) for images in (foreign, collapsed)
    )
    assert of_foreign["precision"] < 0.5 < of_collapsed["precision"] and of_collapsed["recall"] < 0.5
    assert of_foreign["precision_recall_against"] == "baseline"


def test_precision_of_many_images_takes_the_same_subset_and_says_so(options, monkeypatch):
    ours, other = extract(Images(60, seed=1), **options), extract(Images(50, seed=2), **options)
    monkeypatch.setattr(precision_recall, "MOST_IMAGES", 40)
    first, second = (measure(ours, baseline=other, metrics=["prc"], **options) for _ in range(2))
    assert first == second and first["precision_recall_images"] == 40
    assert [text for text in first["warnings"] if "of 60 images a random subset of 40 is taken" in text]
    assert not [text for text in first["warnings"] if "unequal" in text]


@pytest.mark.parametrize(("count", "other", "size"), [(3, 9, None), (4, 9, 2), (60, 45, 22), (2000, 2100, 1000)])
@pytest.mark.one_in(3)
def test_kernel_distance_of_few_images_takes_smaller_subsets_and_says_so(options, count, other, size):
    rng = np.random.default_rng(0)
    sets = []
    for images in (count, other):
        layers = {name: torch.from_numpy(rng.random((images, width), np.float32)) for name, width in LAYERS.items()}
        digest = weights_digest(**options)
        sets.append(Features(BUNDLED_EXTRACTOR, digest, layers, None, images, (32, 32)))
    result = measure(sets[0], reference=sets[1], metrics=["kid"], **options)
    assert result.get("kernel_inception_distance_to_reference_subset_size") == size
    part = {None: "no kernel distance to the reference", 1000: None}.get(
        size, f"subsets of {size} images instead of 1,000"
    )
    assert [part in text for text in result["warnings"]] == ([] if part is None else [True])


@pytest.mark.parametrize(("count", "warned"), [(9_999, True), (10_000, False)])
def test_plain_fid_of_fewer_than_10000_images_is_warned_of(count, warned):
    statistics = {"mu": np.zeros(4, np.float32), "sigma": np.eye(4, dtype=np.float32)}
    ours = Features(INCEPTION, "", {}, statistics, count, (256, 256))
    reference = Features(INCEPTION, "", {}, statistics, None, None)
    _, warnings = frechet_distance.compute(ours, {"reference": reference})
    assert any("too few to cite" in text for text in warnings) == warned


def test_a_metric_that_was_not_asked_for_is_not_measured(options):
    images = extract(Images(40), **options)
    for metrics, part in ((["is"], "inception_score"), (["fid"], "frechet"), (["kid"], "kernel"), (["prc"], "recall")):
        found = measure(images, baseline=images, metrics=metrics, **options)
        kept = set(found) - {"images", "feature_extractor", "feature_extractor_sha256", "warnings"}
        assert kept and all(name.startswith(part) or metrics == ["prc"] for name in kept)


def test_a_part_of_the_features_is_that_of_its_images(options):
    images = Images(60, seed=3)
    part = extract(images, **options).part(20, 60)
    alone = extract(Subset(images, range(20, 60)), **options)
    assert part.images == alone.images == 40
    for key in ("mu", "sigma"):
        np.testing.assert_allclose(part.statistics[key], alone.statistics[key], atol=1e-5)


def test_inception_score_is_of_the_images_and_falls_with_mode_collapse(options):
    varied, collapsed = extract(Images(400, seed=1), **options), extract(Images(400, seed=1, classes=1), **options)
    of_varied = measure(varied, reference=collapsed, **options)["inception_score_mean"]
    of_collapsed = measure(collapsed, reference=varied, **options)["inception_score_mean"]
    assert of_collapsed < 0.8 * of_varied


def test_distance_is_zero_for_equal_sets_and_grows_with_the_difference(options):
    images = extract(Images(300, seed=1), **options)
    same, near, far = (
        measure(images, baseline=other, **options)["frechet_distance_to_baseline"]
        for other in (Images(300, seed=1), Images(300, seed=2), Images(300, seed=2, brightness=0.3))
    )
    assert abs(same) < 1e-3 < near < far
    assert far > 3 * near


def test_absent_inputs_leave_their_keys_absent(options):
    result = measure(Images(40), **options)
    assert {key for key in result if key.startswith("frechet")} == set()
    assert result["images"] == 40 and result["feature_extractor"] == BUNDLED_EXTRACTOR
    assert not any("Fréchet" in warning for warning in result["warnings"])


def test_features_are_extracted_once_and_nothing_is_kept_on_disk(options, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    reference = Images(60, seed=5)
    features = extract(reference, **options)
    after_extraction = reference.reads
    for seed in (1, 2, 3):
        measure(Images(60, seed=seed), baseline=features, reference=features, **options)
    assert reference.reads == after_extraction
    assert not (tmp_path / "torch").exists()


def test_changed_images_in_the_same_folder_give_new_values(options, tmp_path):
    reference = extract(Images(60, seed=5), **options)
    folder = save_folder(Images(60, seed=1), tmp_path / "arm")
    before = measure(folder, reference=reference, **options)["frechet_distance_to_reference"]
    save_folder(Images(60, seed=1, brightness=0.2), tmp_path / "arm")
    after = measure(folder, reference=reference, **options)["frechet_distance_to_reference"]
    assert after > before + 1e-3


def test_features_of_another_network_are_refused(options, weights, tmp_path):
    torch.manual_seed(1)
    other = tmp_path / "other.safetensors"
    save_file(FeatureNet().state_dict(), other)
    reference = extract(Images(20), feature_extractor=BUNDLED_EXTRACTOR, feature_extractor_weights=other)
    with pytest.raises(ValueError, match=r"reference: expected features by .*, got features by .* do not compare"):
        measure(Images(20), reference=reference, **options)


def test_every_kind_of_source_gives_the_same_metrics(options, tmp_path):
    images, reference = Images(120, seed=1), extract(Images(120, seed=2), **options)
    expected = measure(images, reference=reference, **options)
    folder = save_folder(images, tmp_path / "folder")
    np.savez(tmp_path / "images.npz", images.pixels.permute(0, 2, 3, 1).numpy())
    pictures = [Image.fromarray(pixels.permute(1, 2, 0).numpy()) for pixels in images.pixels]
    columns = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    table = datasets.Dataset.from_dict({"image": pictures, "label": list(range(120))}, features=columns)
    table.to_parquet(tmp_path / "images.parquet")
    (tmp_path / "shards").mkdir()
    for name, rows in (("a", range(70)), ("b", range(70, 120))):
        table.select(rows).to_parquet(tmp_path / "shards" / f"{name}.parquet")
    prefixed = [f"parquet:{tmp_path}/images.parquet", f"parquet:{tmp_path}/shards", f"imagefolder:{folder}"]
    for source in (folder, str(folder), tmp_path / "images.npz", tmp_path / "images.parquet", *prefixed):
        result = measure(source, reference=reference, **options)
        assert result.keys() == expected.keys() and result["warnings"] == expected["warnings"]
        for key in ("images", "inception_score_mean", "inception_score_std", "frechet_distance_to_reference"):
            assert result[key] == pytest.approx(expected[key], abs=1e-9), (source, key)


def test_statistics_serve_as_reference(options, tmp_path):
    ours, other = extract(Images(200, seed=1), **options), extract(Images(200, seed=2), **options)
    np.savez(tmp_path / "statistics.npz", **{key: value.astype(np.float64) for key, value in other.statistics.items()})
    expected = measure(ours, reference=other, **options)["frechet_distance_to_reference"]
    given = measure(ours, reference=tmp_path / "statistics.npz", **options)["frechet_distance_to_reference"]
    assert given == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="statistics only"):
        measure(tmp_path / "statistics.npz", **options)
    np.savez(tmp_path / "inception.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    with pytest.raises(ValueError, match="has statistics of 2048 features, but fashion-mnist-128 has 128"):
        measure(ours, reference=tmp_path / "inception.npz", **options)


def test_statistics_with_images_beside_them_serve_each_its_metric(options, tmp_path):
    """As in the reference batches of OpenAI's evaluator: statistics of all real images, and some of these images."""
    ours, whole, some = (extract(Images(120, seed=seed), **options) for seed in (1, 2, 3))
    pixels = Images(120, seed=3).pixels.permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "batch.npz", arr_0=pixels, arr_1=np.zeros(120), **whole.statistics)
    found = measure(ours, reference=tmp_path / "batch.npz", metrics=["fid", "kid", "prc"], **options)
    by_statistics = measure(ours, reference=whole, metrics=["fid"], **options)
    by_images = measure(ours, reference=some, metrics=["kid", "prc"], **options)
    for expected in (by_statistics, by_images):
        for key in set(expected) - {"warnings"}:
            assert found[key] == pytest.approx(expected[key], abs=1e-9), key
    assert "kernel_inception_distance_to_reference_mean" in by_images


def test_leftover_files_of_an_earlier_run_are_not_counted(options, tmp_path):
    folder = save_folder(Images(50), tmp_path / "arm")
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.png"))
    with (folder / "manifest.csv").open("w", newline="") as lines:
        csv.writer(lines).writerows([("index", "file"), *enumerate(files[:30])])
    assert measure(folder, **options)["images"] == 30
    (folder / files[3]).unlink()
    with pytest.raises(ValueError, match=r"000003\.png is in its manifest but missing"):
        measure(folder, **options)


@pytest.mark.parametrize("position", [5, 100], ids=["in the first batch", "in the second"])
def test_mixed_sizes_are_named(options, tmp_path, position):
    folder = save_folder(Images(130), tmp_path / "mixed")
    Image.new("RGB", (64, 48)).save(folder / f"{position // 100:03d}" / f"{position:06d}.png")
    with pytest.raises(ValueError, match=f"image {position} of .* is 48 x 64, but the first is 32 x 32"):
        measure(folder, **options)


def test_unfit_sources_are_named(options, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no images")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "0.png").write_bytes(b"not a PNG")
    np.savez(tmp_path / "floats.npz", np.zeros((4, 32, 32, 3), np.float32))
    for source, message in (
        ("empty", "has no images"),
        ("notes.txt", "is not a set of images"),
        ("missing", "does not exist"),
        ("broken", "0.png cannot be read"),
        ("floats.npz", r"float32 \(4, 32, 32, 3\); allowed: uint8"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(tmp_path / source, **options)
    with pytest.raises(ValueError, match="fashion-mnist-128 measures 32 x 32 images, these are 64 x 64"):
        measure(Images(4, size=64), **options)


def test_unfit_extractors_are_named_before_any_image_is_read(tmp_path):
    images = Images(4)
    (tmp_path / "broken.pth").write_bytes(b"nothing")
    for name, path, message in (
        ("inception", None, "got 'inception'; allowed: fashion-mnist-128, inception-v3-compat, vgg16, "),
        ("inception-v3-compat", tmp_path / "missing.pth", "there is no file"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(images, feature_extractor=name, feature_extractor_weights=path)
    assert images.reads == 0
    for name in (BUNDLED_EXTRACTOR, INCEPTION):
        with pytest.raises(ValueError, match=f"broken.pth does not hold the weights of {name}"):
            measure(images, feature_extractor=name, feature_extractor_weights=tmp_path / "broken.pth")


def test_without_a_network_the_error_says_how_to_get_the_weights(monkeypatch):
    from urllib.error import URLError

    def no_network(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", no_network)
    with pytest.raises(
        ValueError, match=r"could not be downloaded .*--feature_extractor_weights weights-inception.*https:"
    ):
        load_network(INCEPTION, DOWNLOAD)


def test_nothing_is_downloaded_unasked(monkeypatch, tmp_path):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    for name in (INCEPTION, "vgg16"):
        with pytest.raises(ValueError, match=f"the weights of {name} are not on this machine; give .*, or the word"):
            check_feature_extractor(name)
        assert check_feature_extractor(name, DOWNLOAD) is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth").touch()
    assert check_feature_extractor(INCEPTION) is None
    assert check_feature_extractor(BUNDLED_EXTRACTOR, DOWNLOAD) == check_feature_extractor(BUNDLED_EXTRACTOR)


def test_any_registered_extractor_works_by_name(tmp_path):
    """Its weights are digested by content where there is no file."""
    from torch_fidelity import FeatureExtractorBase, register_feature_extractor

    class Means(FeatureExtractorBase):
        def __init__(self, name, features_list, **kwargs):
            super().__init__(name, features_list)
            self.register_buffer("scale", torch.tensor(2.0))

        get_provided_features_list = staticmethod(lambda: ("means",))
        get_default_feature_layer_for_metric = staticmethod(lambda metric: "means")

        def forward(self, images):
            return (images.float().mean((2, 3)) * self.scale,)

    register_feature_extractor("channel-means", Means)
    np.savez(tmp_path / "statistics.npz", mu=np.zeros(3), sigma=np.eye(3))
    result = measure(
        Images(30), baseline=Images(30), reference=tmp_path / "statistics.npz", feature_extractor="channel-means"
    )
    assert result["frechet_distance_to_baseline"] == pytest.approx(0, abs=1e-2)
    assert len(result["feature_extractor_sha256"]) == 64 and result["frechet_distance_to_reference"] > 1


@pytest.mark.parametrize(
    ("count", "expected", "absent"),
    [
        (1, ["no Inception Score", "no Fréchet distance to the baseline"], ["inception_score_mean", "frechet"]),
        (9, ["no Inception Score", "singular"], ["inception_score_mean"]),
        (25, ["25 images in 2 splits instead of 10", "singular"], []),
        (100, ["Inception Score (fashion-mnist-128) reads low: 100 images in 10 splits are", "singular"], []),
        (399, ["Inception Score (fashion-mnist-128) reads low", "the distance reads high"], []),
        (511, ["the distance reads high"], []),
        (512, [], []),
    ],
)
def test_too_few_images_are_warned_of(options, count, expected, absent):
    images = Images(count)
    result = measure(images, baseline=images, **options)
    assert len(result["warnings"]) == len(expected)
    for warning, part in zip(result["warnings"], expected, strict=True):
        assert part in warning
    for part in absent:
        assert not any(part in key for key in result)


@pytest.mark.parametrize("order", [["128", "logits"], ["logits", "128"]])
def test_layers_keep_their_names_in_either_order(weights, order):
    """calculate_metrics asks for the layers in the order of a set, which changes with the hash seed."""
    from torch_fidelity.utils import create_feature_extractor

    register_bundled_extractor()
    network = create_feature_extractor(
        BUNDLED_EXTRACTOR, order, cuda=False, verbose=False, feature_extractor_weights_path=str(weights)
    )
    named = network.convert_features_tuple_to_dict(network(Images(2).pixels))
    assert {name: tensor.shape[1] for name, tensor in named.items()} == {"128": 128, "logits": 10}


def test_bundled_network_knows_the_bundled_images():
    """The real test images: nearly all of ten classes distinguished, and two halves of them nearly equal."""
    images = open_images("bundled")
    assert len(images) == 10_000 and images.shape == (3, 32, 32)
    halves = (Subset(images, range(start, 2000, 2)) for start in (0, 1))
    first, second = (extract(half, feature_extractor=BUNDLED_EXTRACTOR) for half in halves)
    result = measure(first, reference=second, feature_extractor=BUNDLED_EXTRACTOR)
    assert result["warnings"] == []
    assert 7 < result["inception_score_mean"] < 10
    assert 0 < result["frechet_distance_to_reference"] < 1
