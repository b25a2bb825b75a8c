"""Whether there is someone at W&B to send runs as, found out without call or prompt."""

from __future__ import annotations

import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit


def server() -> str:
    """Where W&B is, as wandb is told."""
    return os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"


def has_account() -> bool:
    """Looks for credentials where wandb does."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(server()).netloc
    for place in filter(None, (os.environ.get("NETRC"), "~/.netrc", "~/_netrc")):
        try:
            return netrc.netrc(Path(place).expanduser()).authenticators(host) is not None
        except (OSError, netrc.NetrcParseError):
            continue
    return False
