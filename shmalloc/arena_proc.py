"""What an arena holds, in the forms in which Linux shows its own memory: texts, and the leaks.

Nothing here changes the segment, or calls a kernel. Each text is of the moment at which it is asked
for, while other processes go on. The formats have files of their own (proc_text.py,
page_owner_text.py, leak_report.py), and so does a command for each, for segments of any process.
"""

from __future__ import annotations

from shmalloc.bound import Bound
from shmalloc.leak_report import LeakReport, leak_report
from shmalloc.page_owner import PageOwner
from shmalloc.page_owner_text import PageOwnerText
from shmalloc.proc_text import ProcText


class ProcOperations(Bound):
    """An arena as /proc and debugfs would show it."""

    def buddyinfo(self) -> str:
        """Free blocks of each order and zone, as /proc/buddyinfo (proc_text.py)."""
        return self._proc_text().buddyinfo()

    def pagetypeinfo(self) -> str:
        """Free blocks by migratetype, and pageblocks, as /proc/pagetypeinfo."""
        return self._proc_text().pagetypeinfo()

    def slabinfo(self) -> str:
        """Objects and slabs of each cache, as /proc/slabinfo."""
        return self._proc_text().slabinfo()

    def vmstat(self) -> str:
        """Counters, a name and a number each, as /proc/vmstat (docs/counters.md)."""
        return self._proc_text().vmstat()

    def extfrag(self) -> str:
        """Fragmentation index and unusable index by order, as Linux's debugfs shows them."""
        return self._proc_text().extfrag()

    def page_owner(self) -> str:
        """The sampled blocks of pages with the stacks that allocated them, as debugfs/page_owner.

        Raises ``MisuseError`` unless the arena was created with ``page_owner="1/N"``.
        """
        return self._page_owner_text().page_owner()

    def show_stacks(self) -> str:
        """Pages by call stack, scaled up from the sample, as page_owner_stacks/show_stacks."""
        return self._page_owner_text().show_stacks()

    def alloc_traces(self) -> str:
        """Objects by call stack, scaled up from the sample, as slab/<cache>/alloc_traces."""
        return self._page_owner_text().alloc_traces()

    def leak_report(self) -> LeakReport:
        """What is still allocated, by call site, with the processes that hold it: of all processes.

        Raises ``MisuseError`` unless the arena was created with ``page_owner="1/N"``.
        """
        return leak_report(self._samples(), self._word, self.segment.claim_is_held)

    def _proc_text(self) -> ProcText:
        self.check_open()
        words = self.segment.ram.array
        return ProcText(self.segment.layout, lambda first, count: words[first : first + count])

    def _page_owner_text(self) -> PageOwnerText:
        return PageOwnerText(self._samples(), self._word)

    def _samples(self) -> PageOwner:
        self.check_open()
        words = self.segment.ram.array
        return PageOwner(self.segment.layout, lambda first, count: words[first : first + count])

    def _word(self, index: int) -> int:
        return int(self.segment.ram[index])
