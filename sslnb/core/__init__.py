"""What everything else rests on: checks, files, devices, results, claims; no data, no networks, no figures."""
