"""The control block: every word that the scheduler of the model memories owns.

One array of int64, the same for both engines: compiled code takes its address, the interpreted
scheduler a list. The header and the arrays with one word for each CPU or actor are at fixed
offsets; what depends on the program comes behind them, and the header says where.

An *actor* is what the scheduler chooses from: a virtual CPU (0 .. CPUS-1), or the store buffer of
one (behind them): under tso one actor for each CPU, under pso one for each entry of its buffer.

Layout::

    0     header                    the schedule, the places of the areas, the result
    128   CPU arrays, 64 words each what a CPU posted, its state, its stack
    2240  actor arrays, 576 each    choices, local step numbers, priorities
    4096  areas                     trace, log, stamps, undo, buffers, shadow, clocks, tree, ...

A word changed by a schedule is remembered once (stamp = epoch) and put back before the next one,
so a reset costs what was written.
"""

MAX_CPUS = 64
TSO_DEPTH = 64  # entries of a store buffer; processors have 40 to 80
PSO_DEPTH = 8
MAX_ACTORS = MAX_CPUS * (1 + PSO_DEPTH)
MAX_VALUES = 60  # of one choice: a set of them is one word
MAX_SPURIOUS = 1_000
MAX_ARGUMENTS = 6  # of a thread, behind the memory and the CPU

# --- header: the machine -------------------------------------------------------------------------
HUB_SP = 0  # stack pointer of the scheduler itself
CURRENT = 1  # the CPU that runs
CPUS = 2
ACTORS = 3
MODEL = 4  # SC, TSO, PSO
BASE = 5  # address of the memory (native engine)
WORDS = 6
STACKS = 8  # native engine: address of all stacks, where fibers start
FIBER_MAIN = 9
CHECK_ENTRY = 10  # 0: none
INVARIANT_ENTRY = 11
STEP_LIMIT = 12
IDLE_LIMIT = 13
LOGGING = 14
CLOCKED = 15  # races, torn reads and undefined words are looked for
PARKING = 16  # a CPU that relaxed waits for a change of what it read, not for any step of others
FREE_SPINS = 17  # parking: repeated spins before a CPU waits
SPURIOUS = 18  # how many waits of each CPU may return without a wake, in one schedule
DORMANT_CPUS = 19  # how many have not been let go yet (symmetry)
# --- header: this schedule -----------------------------------------------------------------------
STEPS = 20  # also the model's clock
OUTCOME = 21
CODE = 22  # what check or invariant returned
RANDOM = 23
YIELDED_COUNT = 24
CHANGES = 25  # steps that changed a word, woke a CPU or chose a value
HASH = 26  # of all events
LAST_ACTOR = 27  # the actor of the last step, -1 at the start
FAULT_CPU = 28
FAULT_AT = 29
OTHER_CPU = 30  # the other side of a race; -1
BARRIER = 31  # steps before this one were made before all CPUs had stopped to wait
FORWARDED = 32  # bit 0, 1: the last read took its word (second word) from its own buffer
FLUSHED_AT = 33  # word that the last flush wrote
PREEMPTIONS = 34
DISTURBED = 35  # mask of CPUs: the last step changed what their spin read (a strategy clears it)
SETTLED = 36  # 1: no actor could make a step any more
HEAVY_FENCES = 37  # 1: some CPU may make one (words.heavy_fence)
# --- header: all schedules -----------------------------------------------------------------------
SCHEDULES = 40
TOTAL_STEPS = 41
ABANDONED_COUNT = 42
FAILURES = 43
EPOCH = 44
UNDO_COUNT = 45
OBSERVED = 46  # number of values in an outcome
TABLE_FULL = 47  # outcomes that did not fit the table
LONGEST = 48  # most steps of a schedule
REPEATS = 49  # schedules run twice to see whether they repeat
DEPTH = 50  # entries of a store buffer
BUFFER_FULL = 51  # 1: a CPU had to wait with a store because its buffer was full
SETS_LEFT_OUT = 53  # 1: a wake could choose among more than MAX_VALUES sets of sleepers
PATIENT = 54  # mask of CPUs that parked and may have given up after some more spins
CUT_SHORT = 52  # schedules that a failure ended while some actor could make a step
# --- header: areas -------------------------------------------------------------------------------
TRACE_AT = 60  # the actor of each step, with the value of a choice (choices.py)
REPEAT_AT = 61  # a copy of it, to be followed
LOG_AT = 62  # EVENT_WORDS a step
STAMPS_AT = 63  # one word a word of memory
UNDO_AT = 64  # (index, old value)
BUFFERS_AT = 65
WATCH_AT = 66  # WATCH_WORDS a CPU
UNDEFINED_AT = 67  # 0: every word is defined; else 2 words a word: is undefined, epoch of its write
LOCKS_AT = 68
LOCK_COUNT = 69
OBSERVE_AT = 70
TABLE_AT = 71
TABLE_SLOTS = 72
SHADOW_AT = 73
SHADOW_WORDS = 74
CLOCKS_AT = 75  # CPUS words a CPU: happens-before
PENDING_AT = 76  # what relaxed loads saw, for a later fence
FENCED_AT = 77  # the clock at the last fence, for later relaxed stores
READS_AT = 79  # the last READS_KEPT single reads of each CPU: (word + 1, step)
TREE_AT = 80  # what a strategy keeps
TREE_WORDS = 81
KEPT_AT = 82  # the trace of the first schedule that failed
KEPT_STEPS = 83
KEPT_OUTCOME = 84
KEPT_CODE = 85
KEPT_SCHEDULE = 86
ARGUMENTS_AT = 87  # 1 + MAX_ARGUMENTS words a CPU: how many, and the arguments of its kernel
# --- header: strategies (stress/explorer) ---------------------------------------------------------
STRATEGY_LOOP = 90  # two words that all strategies share (loop.py)
STRATEGY_OWN = 92  # up to 127: of the one strategy that drives this machine

# --- one word for each CPU -----------------------------------------------------------------------
OP = 128
AT = 192
ARG = 256
ARG1 = 320
ARG2 = 384
ARG3 = 448
VALUE = 512
VALUE1 = 576
STATE = 640
RETURN = 704
SP = 768
LIMIT = 832
ENTRY = 896
RELAXES = 960
RELAXED_AT = 1024  # CHANGES at the last relax
ENABLED_BY = 1088  # 1 + the step that woke this CPU; 0: it never slept
BUFFERED = 1152  # entries in its store buffer
TORN_AT = 1216  # 1 + the pair of which it holds two halves of different writes
READ_HASH = 1280  # of what it read since its last relax
LAST_HASH = 1344
REPEATED_SPINS = 1408
DIRTY = 1472  # it changed a word since its last relax
WATCHED = 1536  # words it read since its last relax; -1: more than fit
READ_NEXT = 1600
OVERTAKEN = 1664  # another actor changed what it read since its last relax
RESUMING = 1728  # it relaxed after enough equal spins: its next step needs such a change
CHOICE = 1792  # the value that its next step gives, if it has several (choices.py)
SPURIOUS_LEFT = 1856  # waits that may yet return without a wake
FOLLOWS = 1920  # 1 + the CPU like this one that makes its first step before; 0: none (symmetry)
SPIN_STATE = 1984  # what it kept to itself at its last relax (private.py)
IDLE_STATE = 2048  # ... at some relax since a word last changed
IDLE_AGAIN = 2112  # 1: ... and again at a later one
GIVES_UP = 2176  # 1: its kernel can give up a spin (patience.py)
# --- one word for each actor ---------------------------------------------------------------------
CHOICES = 2240
LOCALS = CHOICES + MAX_ACTORS  # steps made
PRIORITIES = LOCALS + MAX_ACTORS
VARIABLE = 4096

EVENT_WORDS = 5
WATCH_LIMIT = 16
WATCH_WORDS = 2 * WATCH_LIMIT
READS_KEPT = 8
ENTRY_AT = 0  # words of a buffer entry; a clock of CPUS words behind them
ENTRY_VALUE = 1
ENTRY_OP = 2  # what stored it: OP_WRITE, OP_STORE or OP_STORE_RELAXED
ENTRY_CLOCK = 3

SC = 0
TSO = 1
PSO = 2

READY = 0
YIELDED = 1
ASLEEP = 2
FINISHED = 3
DEAD = 4  # makes no step any more, and never returned (stress/crash/strategy.py)
DORMANT = 5  # makes no step before the CPU that it follows has made one

RUNNING = 0
PASSED = 1
FAILED = 2
DEADLOCK = 3
LIVELOCK = 4
MEMORY = 5
STACK = 6
ABANDONED = 7
ERROR = 8
INVARIANT = 9
RACE = 10
TORN = 11
UNDEFINED = 12
ARITHMETIC = 13
EXPECTATION = 14  # CODE is what expect said
WROTE = 15  # check or invariant wrote word CODE
FIRST_OWN = 16  # outcomes from here on are a strategy's own, and do not leave it

LOW_HALF = 0xFFFFFFFF
HOLDER_MASK = 0xFFFF
MASK62 = (1 << 62) - 1
HASH_FACTOR = 0x2545F4914F6CDD1D & MASK62
