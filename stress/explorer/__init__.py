"""The explorer: every schedule of a small program, or as many as the budget allows.

``from stress import explore`` gives this package once a file of it was imported: the import system
binds a package to its name in the parent, over the function of that name. So the package is the
function, too.
"""

import sys
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """``stress.explorer.explore.explore``."""
        from stress.explorer.explore import explore

        return explore(*arguments, **options)


sys.modules[__name__].__class__ = _Package
