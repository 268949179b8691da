"""The form of a measured number."""


def row(
    name: str, unit: str, ours: float, target: str, met: bool, peer: float | None = None, peer_name: str | None = None
) -> dict:
    """One measured number with what it stands against; the ratio is peer / ours for times, absent otherwise."""
    ratio = peer / ours if peer is not None and unit in ("s", "ms") else None
    numbers = {"ours": float(ours), "peer": peer, "ratio": ratio}
    return {"name": name, "unit": unit, **numbers, "peer_name": peer_name, "target": target, "met": bool(met)}
