"""The public pool: ResNet-50s that others trained on ImageNet and published, with where each statement comes from.

Accuracies are top-1 of a linear classifier on ImageNet's validation images, as the publisher states them. Checksums are
the publisher's own digits. Where none are given, the first file that comes is trusted, and every later one has to be
the same. Nothing here could be fetched where this was written: addresses, digits and layouts are those of the pages
named.

All five methods of sehwag2020separability are here, though SimCLR's own weights are for TensorFlow: these are
OpenMMLab's, trained anew. BYOL is missing: its file is a pickle, which would have to be executed.
"""

from sslnb.encoders.cmc import cmc_from
from sslnb.pool.published import PublicPlan, Published

_FAIR, _DROPBOX = "https://dl.fbaipublicfiles.com", "https://www.dropbox.com/sh/87d24jqsl6ra7t2"
_MMLAB = "https://download.openmmlab.com/mmselfsup/1.x/simclr/simclr_resnet50_16xb256-coslr-800e_in1k"
_GITHUB = "https://github.com"
_NC, _UNSTATED = "CC BY-NC 4.0", "none stated"
# PyContrast's list of models names the files of one folder; a copy of it has the address of each.
_PYCONTRAST = f"{_GITHUB}/HobbitLong/PyContrast (pycontrast/docs/MODEL_ZOO.md, pycontrast/README.md)"
_PYCONTRAST += f"; addresses: {_GITHUB}/kantharajucn/PyContrast (hubconf.py)"

PUBLIC = PublicPlan(
    "public",
    {
        "supervised": Published(
            "https://download.pytorch.org/models/resnet50-0676ba61.pth",
            0.7613,
            "BSD-3-Clause, the code's",
            "torchvision.models.ResNet50_Weights.IMAGENET1K_V1",
            checksum="sha256:0676ba61",  # in the file's name, as torch.hub checks it
            megabytes=97.8,
        ),
        "infomin": Published(  # 800 epochs; the paper's list of the best public ones then
            f"{_DROPBOX}/AAAzMTynP3Qc8mIE4XWkgILUa/InfoMin_800.pth?dl=1", 0.730, _UNSTATED, _PYCONTRAST
        ),
        "moco": Published(  # MoCo v2, 800 epochs
            f"{_FAIR}/moco/moco_checkpoints/moco_v2_800ep/moco_v2_800ep_pretrain.pth.tar",
            0.711,
            _NC,
            f"{_GITHUB}/facebookresearch/moco (README.md, Models)",
            checksum="md5:a04e12f8",
        ),
        "simclr": Published(  # 800 epochs
            f"{_MMLAB}/simclr_resnet50_16xb256-coslr-800e_in1k_20220825-85fcc4de.pth",
            0.692,
            "Apache 2.0",
            f"{_GITHUB}/open-mmlab/mmpretrain (configs/simclr/metafile.yml)",
            checksum="sha256:85fcc4de",  # in the file's name: its publishing script puts the first eight digits there
        ),
        "pirl": Published(  # 200 epochs, PyContrast's own training
            f"{_DROPBOX}/AADN4jKnvTI0U5oT6hTmQZz8a/PIRL.pth?dl=1", 0.617, _UNSTATED, _PYCONTRAST
        ),
        "cmc": Published(  # 200 epochs, PyContrast's own training; two networks with 12 million parameters
            f"{_DROPBOX}/AACYcqgM-lcG3__QIbxuM2Koa/CMC.pth?dl=1", 0.586, _UNSTATED, _PYCONTRAST, read=cmc_from
        ),
        "swav": Published(
            f"{_FAIR}/deepcluster/swav_800ep_pretrain.pth.tar",
            0.753,
            _NC,
            f"{_GITHUB}/facebookresearch/swav (README.md, Model Zoo)",
        ),
        "barlow_twins": Published(
            f"{_FAIR}/barlowtwins/epochs1000_bs2048_lr0.2_lambd0.0051_proj_8192_8192_8192_scale0.024/resnet50.pth",
            0.733,
            _NC,
            f"{_GITHUB}/facebookresearch/barlowtwins (README.md)",
        ),
        "vicreg": Published(
            f"{_FAIR}/vicreg/resnet50.pth", 0.732, "MIT", f"{_GITHUB}/facebookresearch/vicreg (README.md)"
        ),
        "dino": Published(
            f"{_FAIR}/dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth",
            0.753,
            "Apache 2.0",
            f"{_GITHUB}/facebookresearch/dino (README.md)",
        ),
        "simsiam": Published(  # 100 epochs
            f"{_FAIR}/simsiam/models/100ep/pretrain/checkpoint_0099.pth.tar",
            0.681,
            _NC,
            f"{_GITHUB}/facebookresearch/simsiam (README.md)",
        ),
    },
)
