"""The tables of the database, in SQL. ``docs/database.md`` describes them for people.

Times are unix seconds, sizes are bytes, structured values are JSON texts. A verdict is a name of
``stress.verdict.Verdict``, or NULL while there is none.

Rules of the tables:

- a row of ``runs`` or ``rounds`` is "running" from its begin to its end; the next writer of
  the file makes it "lost" if its own has died
- ids are never used twice (AUTOINCREMENT): a lock of ``writers`` names a run by its id
- ``findings`` are one row a fingerprint; ``sightings`` say which rounds saw it, whatever kind it
  is; ``violations`` are what a native round reported, the first few of a round
- what belongs to a round goes with it (ON DELETE CASCADE); findings stay
"""

from __future__ import annotations

APPLICATION_ID = 0x73686D73  # "shms", for file(1) and for us
VERSION = 2  # in user_version; raised when a table changes

RUNS = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,                 -- run, soak, explore, crash, mutants
    command TEXT NOT NULL,              -- the line that repeats it
    spec TEXT NOT NULL DEFAULT '{}',
    seed TEXT,                          -- hexadecimal
    version TEXT NOT NULL,              -- of shmstress
    kernels TEXT NOT NULL DEFAULT '',   -- digest of the kernels' source
    hostname TEXT NOT NULL DEFAULT '',
    python TEXT NOT NULL DEFAULT '',
    machine TEXT NOT NULL DEFAULT '{}',
    started_s REAL NOT NULL,
    ended_s REAL,
    state TEXT NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'ended', 'lost')),
    verdict TEXT,
    dropped_rounds INTEGER NOT NULL DEFAULT 0,  -- passed ones that --keep removed
    summary TEXT NOT NULL DEFAULT '{}'
);
"""
ROUNDS = """
CREATE TABLE rounds (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,            -- from 1, in its run
    kind TEXT NOT NULL,                 -- run, explore, crash, trace, mutant
    command TEXT NOT NULL,
    spec TEXT NOT NULL DEFAULT '{}',
    features TEXT NOT NULL DEFAULT '[]',
    seed TEXT,
    started_s REAL NOT NULL,
    ended_s REAL,
    seconds REAL,                       -- of work
    state TEXT NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'ended', 'lost')),
    verdict TEXT,
    operations INTEGER,
    marks TEXT NOT NULL DEFAULT '{}',
    events TEXT NOT NULL DEFAULT '{}',
    result TEXT NOT NULL DEFAULT '{}',  -- the entry of results in the JSON document
    thinned INTEGER NOT NULL DEFAULT 0, -- how far --keep thinned it out
    UNIQUE (run_id, number)
);
"""
SAMPLES = """
CREATE TABLE samples (
    id INTEGER PRIMARY KEY,
    round_id INTEGER NOT NULL REFERENCES rounds (id) ON DELETE CASCADE,
    at_s REAL NOT NULL,                 -- since the work began
    time_s REAL NOT NULL,
    operations INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    used_pages INTEGER NOT NULL,
    free_pages INTEGER NOT NULL,
    isolated_pages INTEGER NOT NULL,
    managed_pages INTEGER NOT NULL,
    fragmentation REAL,                 -- 0..1
    audits INTEGER NOT NULL,
    reports INTEGER NOT NULL,
    free_by_order TEXT NOT NULL,        -- blocks, from order 0
    pcp_pages TEXT NOT NULL,            -- of each CPU
    events TEXT NOT NULL,
    accounts TEXT NOT NULL,             -- of each workload
    ram_map BLOB                        -- a state a cell
);
CREATE INDEX samples_of_round ON samples (round_id);
CREATE TABLE processes (
    id INTEGER PRIMARY KEY,
    round_id INTEGER NOT NULL REFERENCES rounds (id) ON DELETE CASCADE,
    time_s REAL NOT NULL,
    pid INTEGER NOT NULL,
    role TEXT NOT NULL,                 -- controller, worker 3, forkserver
    rss_bytes INTEGER NOT NULL,
    private_bytes INTEGER,              -- without the segment
    shared_bytes INTEGER,
    pss_bytes INTEGER,
    fds INTEGER,
    threads INTEGER,
    cpu_s REAL
);
CREATE INDEX processes_of_round ON processes (round_id);
CREATE TABLE latencies (
    round_id INTEGER NOT NULL REFERENCES rounds (id) ON DELETE CASCADE,
    operation TEXT NOT NULL,
    histogram TEXT NOT NULL,
    PRIMARY KEY (round_id, operation)
) WITHOUT ROWID;
"""
FINDINGS = """
CREATE TABLE findings (
    fingerprint TEXT PRIMARY KEY,
    kind TEXT NOT NULL,                 -- violation, schedule, crash, mutant
    invariant TEXT NOT NULL,            -- or how it ended: race, deadlock, ...
    site TEXT NOT NULL,                 -- the kernel, or the lines, that showed it
    sentence TEXT NOT NULL,             -- what must hold
    first_seen_s REAL NOT NULL,
    last_seen_s REAL NOT NULL,
    count INTEGER NOT NULL,             -- rounds that saw it, also those that --keep removed
    status TEXT NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'ignored', 'fixed')),
    first_round_id INTEGER REFERENCES rounds (id) ON DELETE SET NULL,
    last_round_id INTEGER REFERENCES rounds (id) ON DELETE SET NULL,
    repeatable INTEGER,                 -- 0, 1, NULL: not tried
    command TEXT NOT NULL,              -- the smallest that shows it
    token TEXT,
    report TEXT NOT NULL,               -- the first sighting in words
    details TEXT NOT NULL DEFAULT '{}'
) WITHOUT ROWID;
CREATE INDEX findings_by_first_round ON findings (first_round_id);
CREATE INDEX findings_by_last_round ON findings (last_round_id);
CREATE TABLE sightings (
    round_id INTEGER NOT NULL REFERENCES rounds (id) ON DELETE CASCADE,
    fingerprint TEXT NOT NULL REFERENCES findings (fingerprint) ON DELETE CASCADE,
    count INTEGER NOT NULL,             -- reports of it in that round
    PRIMARY KEY (round_id, fingerprint)
) WITHOUT ROWID;
CREATE INDEX sightings_of_finding ON sightings (fingerprint);
CREATE TABLE violations (
    id INTEGER PRIMARY KEY,
    round_id INTEGER NOT NULL REFERENCES rounds (id) ON DELETE CASCADE,
    finding TEXT NOT NULL REFERENCES findings (fingerprint) ON DELETE CASCADE,
    fingerprint TEXT NOT NULL,          -- its own: it may only follow from the finding
    time_s REAL NOT NULL,
    invariant TEXT NOT NULL,
    site TEXT NOT NULL,
    cpu INTEGER,
    place TEXT NOT NULL,
    expected TEXT NOT NULL,
    found TEXT NOT NULL,
    history TEXT NOT NULL DEFAULT '[]'
);
CREATE INDEX violations_of_round ON violations (round_id);
CREATE INDEX violations_of_finding ON violations (finding);
"""
ARTIFACTS = """
CREATE TABLE artifacts (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    round_id INTEGER REFERENCES rounds (id) ON DELETE CASCADE,
    fingerprint TEXT REFERENCES findings (fingerprint) ON DELETE SET NULL,
    name TEXT NOT NULL,
    media_type TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    content BLOB NOT NULL
);
CREATE INDEX artifacts_of_run ON artifacts (run_id);
CREATE INDEX artifacts_of_round ON artifacts (round_id);
CREATE INDEX artifacts_of_finding ON artifacts (fingerprint);
"""
TABLES = (RUNS, ROUNDS, SAMPLES, FINDINGS, ARTIFACTS)


def statements() -> list[str]:
    """Every statement that makes an empty database, to be run in one transaction."""
    script = "".join(TABLES)
    lines = [line.partition("--")[0].rstrip() for line in script.splitlines()]
    return [one.strip() for one in "\n".join(lines).split(";") if one.strip()]
