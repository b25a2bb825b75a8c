"""Before anything imports lightning, which needs the operators that tfzoo declares for torchvision."""

import tfzoo  # noqa: F401
