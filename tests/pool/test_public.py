"""The public pool, against a server of the test's own: what comes is verified, and lands whole or not at all."""

import io
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from sslnb import cli, data
from sslnb.core.files import checksum
from sslnb.encoders import load_encoder
from sslnb.encoders.encoder import weights_checksum
from sslnb.objectives.registry import OBJECTIVES
from sslnb.pool import Pool, scales, train
from sslnb.pool.public import PUBLIC
from sslnb.pool.published import PublicPlan, Published


class Site:
    """Files by path, with the length that the server announces."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.announced: dict[str, int] = {}
        self.asked: list[str] = []


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            made.asked.append(path)
            if path not in made.files:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(made.announced.get(path, len(made.files[path]))))
            self.end_headers()
            self.wfile.write(made.files[path])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made.address = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()


def light(name: str = "resnet18") -> dict[str, torch.Tensor]:
    """A network's parameters, all alike, so that its file holds one number for each tensor."""
    state = getattr(torchvision.models, name)(weights=None).state_dict()
    return {key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in state.items()}


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture
def places(site: Site, tmp_path, monkeypatch) -> Path:
    """Two published encoders, and the folder into which their files come."""
    site.files = {
        "/moco_v2.pth.tar": saved({"state_dict": {f"module.encoder_q.{k}": v for k, v in light().items()}}),
        "/resnet50.pth": saved(light()),
    }
    variants = {
        "moco": Published(f"{site.address}/moco_v2.pth.tar?dl=1", 0.711, "CC BY-NC 4.0", "its page"),
        "dino": Published(f"{site.address}/resnet50.pth", 0.753, "Apache 2.0", "its page"),
    }
    monkeypatch.setitem(scales.SCALES, "public", PublicPlan("public", variants, architecture="resnet18"))
    monkeypatch.setenv("SSLNB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pool" / "public"


def files(folder: Path) -> list[str]:
    """Names of the files below a folder, locks aside."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))


def publish(name: str, **changes: object) -> None:
    """Change what is published of an encoder."""
    plan = scales.SCALES["public"]
    published = Published(**(vars(plan.variants[name]) | changes))
    scales.SCALES["public"] = PublicPlan("public", dict(plan.variants) | {name: published}, plan.architecture)


def test_a_file_comes_on_first_use_with_progress_and_never_again(places, site, capsys) -> None:
    torch.manual_seed(0)
    body = torchvision.models.resnet18(weights=None).eval()
    site.files["/resnet50.pth"] = saved(body.state_dict())
    digest = "sha256:" + checksum_of(site.files["/resnet50.pth"], places, "sha256")
    publish("dino", checksum=digest[:15])
    encoder = load_encoder("pool:public/dino/0")
    assert "public/dino/0" in capsys.readouterr().err and site.asked == ["/resnet50.pth"]
    body.fc = nn.Identity()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), body((x - encoder.mean) / encoder.std))
    entry = Pool("public").entry("dino/0")
    assert f"sha256:{entry.sha256}" == digest and entry.accuracy == {"linear": 0.753}
    assert entry.provenance["licence"] == "Apache 2.0" and entry.provenance["source"] == "its page"
    assert weights_checksum(Pool("public").encoder("dino")) == weights_checksum(encoder)
    assert site.asked == ["/resnet50.pth"] and files(places) == ["resnet50.pth", "resnet50.pth.json"]


def checksum_of(content: bytes, folder: Path, kind: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "content"
    path.write_bytes(content)
    digest = checksum(path, kind)
    path.unlink()
    return digest


HTML = b"<!doctype html><title>This link has expired</title>"
BAD = {
    "a page instead": (
        lambda s: s.files.update({"/resnet50.pth": HTML}),
        {},
        "expected the encoder, a resnet18, from .*got checkp",
    ),
    "another network": (
        lambda s: s.files.update({"/resnet50.pth": saved(light("resnet34"))}),
        {},
        "expected the encoder, a resnet18, from .*got arch: expected resnet34, as the weights are, got resnet18",
    ),
    "no weights": (
        lambda s: s.files.update({"/resnet50.pth": saved({"a": torch.zeros(2)})}),
        {},
        "expected the encoder, a resnet18, from .*got checkpoint: expected a ResNet's parameters",
    ),
    "cut short": (
        lambda s: s.announced.update({"/resnet50.pth": len(s.files["/resnet50.pth"]) + 1000}),
        {},
        r"expected [\d,]+ bytes from http.*, got [\d,]+",
    ),
    "cut short, unannounced": (
        lambda s: s.files.update({"/resnet50.pth": s.files["/resnet50.pth"][:-1000]}),
        {},
        "expected the encoder, a resnet18",
    ),
    "another checksum": (lambda s: None, {"checksum": "sha256:0676ba61"}, r"expected sha256 0676ba61…, got \w{8}…"),
    "another MD5": (lambda s: None, {"checksum": "md5:a04e12f8"}, r"expected md5 a04e12f8…, got \w{8}…"),
    "not there": (lambda s: s.files.clear(), {}, "expected an answer from http.*got HTTP Error 404: Not Found"),
    "no server": (
        lambda s: None,
        {"address": "http://127.0.0.1:9/resnet50.pth"},
        "expected an answer .*Connection refused",
    ),
    "no network": (
        lambda s: None,
        {"address": "http://nowhere.invalid/resnet50.pth"},
        "expected an answer .*([Nn]ame|resolution)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_the_published_file_is_refused_in_one_line_and_leaves_nothing(places, site, name) -> None:
    spoil, changes, message = BAD[name]
    spoil(site)
    publish("dino", **changes)
    with pytest.raises(ValueError, match=f"pool: public/dino/0.*: {message}") as error:
        Pool("public").encoder("dino")
    assert "\n" not in str(error.value) and files(places) == []


def test_a_full_disk_leaves_nothing(places, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sslnb.core.download.shutil.copyfileobj", full)
    with pytest.raises(ValueError, match=r"got \[Errno 28\] No space left on device \(try again, or put the file at "):
        Pool("public").encoder("dino")
    assert files(places) == []


def test_a_download_that_is_interrupted_leaves_nothing_and_comes_again(places, monkeypatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("sslnb.core.download.shutil.copyfileobj", interrupt)
        Pool("public").encoder("dino")
    assert files(places) == []
    assert Pool("public").encoder("dino").feature_dim == 512


def test_the_first_file_is_trusted_and_every_later_one_has_to_be_it(places, site) -> None:
    Pool("public").encoder("dino")
    path = places / "dino" / "resnet50.pth"
    path.write_bytes(saved(light() | {"fc.bias": torch.ones(3)}))
    with pytest.raises(
        ValueError, match=r"expected the file with SHA-256 .*, got another at .*; remove it to fetch it"
    ):
        Pool("public").encoder("dino")
    site.files["/resnet50.pth"] = path.read_bytes()
    path.unlink()
    with pytest.raises(ValueError, match=r"fetched before on \d{4}-\d\d-\d\d: expected sha256 \w+…, got \w+…"):
        Pool("public").encoder("dino")
    assert files(places) == ["resnet50.pth.json"]


def test_a_file_that_somebody_put_there_is_taken_when_it_is_the_right_one(places, site) -> None:
    path = Pool("public").path("dino/0")
    path.parent.mkdir(parents=True)
    path.write_bytes(HTML)
    with pytest.raises(ValueError, match="pool: public/dino/0: expected the encoder"):
        Pool("public").encoder("dino")
    assert path.read_bytes() == HTML  # not this package's to remove
    path.write_bytes(site.files["/resnet50.pth"])
    Pool("public").encoder("dino")
    assert site.asked == [] and files(places) == ["resnet50.pth", "resnet50.pth.json"]


def test_a_new_address_is_fetched_anew(places, site) -> None:
    Pool("public").encoder("dino")
    site.files["/new.pth"] = site.files["/resnet50.pth"]
    publish("dino", address=f"{site.address}/new.pth")
    assert [row["state"] for row in train.status("public")] == ["not fetched", "not fetched"]
    Pool("public").encoder("dino")
    assert site.asked == ["/resnet50.pth", "/new.pth"]


def test_training_the_pool_fetches_it_and_names_what_failed_after_the_rest(places, site, capsys) -> None:
    content = site.files.pop("/moco_v2.pth.tar")
    assert cli.main(["pool", "train", "--scale", "public"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "pool: public/moco/0: expected an answer" in error and "failed too" not in error
    assert "resnet50.pth" in files(places)
    assert cli.main(["pool", "status", "--scale", "public"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"moco/0 +not fetched +size not known +linear 71.1 %  licence: CC BY-NC 4.0", out)
    assert re.search(r"dino/0 +fetched +\d+ MB", out) and f"{site.address}/resnet50.pth (no checksum" in out
    assert "1 of 2 fetched" in out
    site.files["/moco_v2.pth.tar"] = content
    assert cli.main(["pool", "train", "--scale", "public", "moco/0"]) == 0
    assert capsys.readouterr().out == "moco/0: linear 71.1 %\n"
    assert site.asked.count("/resnet50.pth") == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pool:public/moko/0", "did you mean 'moco/0'"),
        ("pool:public/moco/1", "did you mean 'moco/0'"),
        ("pool:public/moco/0@100", "did you mean 'moco/0'"),
    ],
)
def test_names_that_nobody_published_are_refused(places, site, spec, message) -> None:
    with pytest.raises(ValueError, match=message):
        load_encoder(spec)
    assert site.asked == []


def test_it_is_a_pool_like_any_other_with_controls_and_without_a_floor(places, site) -> None:
    pool = Pool("public")
    assert pool.members() == tuple(pool) == ("moco/0", "dino/0") and len(pool) == 2 and pool.seeds("moco") == (0,)
    assert pool.steps("moco") == () and pool.matched_steps() == {}
    twins = [weights_checksum(pool.encoder("untrained", seed)) for seed in (0, 1, 0)]
    assert twins[0] == twins[2] != twins[1]
    assert pool.encoder("pixels").feature_dim == 3 * 224 * 224
    assert pool.floor()["pixels"] != pool.floor()["pixels"]  # NaN
    assert site.asked == []
    with pytest.raises(ValueError, match="scale: expected a pool that is trained here, got 'public'"):
        train.export("public")


def test_images_are_some_of_imagenets(places, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(data, "load", lambda *name, **options: asked.append((name, options)))
    Pool("public").images("val")
    assert asked == [(("imagenet", "val"), {"size": 224, "limit": 10_000})]


def test_every_published_encoder_says_where_it_comes_from() -> None:
    for name, published in PUBLIC.variants.items():
        assert name in OBJECTIVES and published.source and published.licence
        assert published.address.startswith("https://") and 0.5 < published.linear_accuracy < 0.8
        assert re.fullmatch(r"|sha256:[0-9a-f]{8,64}|md5:[0-9a-f]{8,32}", published.checksum)
    assert {"supervised", "infomin", "moco", "simclr", "pirl", "cmc"} <= set(PUBLIC.variants)


def test_torchvisions_own_list_says_the_same_of_its_weights() -> None:
    weights = torchvision.models.ResNet50_Weights.IMAGENET1K_V1
    supervised = PUBLIC.variants["supervised"]
    assert supervised.address == weights.url and supervised.checksum.removeprefix("sha256:") in weights.url
    assert supervised.linear_accuracy == pytest.approx(weights.meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100)
