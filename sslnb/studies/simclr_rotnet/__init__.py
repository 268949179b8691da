"""SimCLR against RotNet (Chen, Hsu and Jang 2023): batch size and steps, few labels, attacks, transfer, depth."""

from sslnb.studies.simclr_rotnet.claims import CLAIMS, PAPER, verdicts
from sslnb.studies.simclr_rotnet.parameters import RotNetParameters
from sslnb.studies.simclr_rotnet.steps import architectures, attack, check, fractions, linear, published_code, transfer
from sslnb.studies.study import Study, pretraining

STUDY = Study(
    name="simclr_rotnet",
    title="SimCLR against RotNet",
    paper=PAPER,
    parameters=RotNetParameters,
    steps=(pretraining, linear, fractions, attack, transfer, architectures, published_code),
    claims=CLAIMS,
    decide=verdicts,
    check=check,
)
