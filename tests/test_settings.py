"""Settings in two forms: each line and its table give the same spec; mistakes are one line."""

import pickle
import subprocess
import sys
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs, to_builtins

from shmalloc.layout import LINK_STORES
from stress import cli
from stress.faults.grammar import Pressure, parse_faults
from stress.jitter.spec import Jitter, Stutter, parse_jitter
from stress.quantities import exact_bytes
from stress.spec import RawSpec, RunSpec, Zone, option_text, resolve
from stress.workloads import DEFAULT_WORKLOADS, WORKLOADS
from support.runs import environment
from test_faults_grammar import FAULTS, raw

SECONDS = st.integers(1, 10**6).map(lambda ms: ms / 1000)
GAPS = st.none() | st.integers(1, 1 << 20)
JITTERS = st.builds(
    Jitter,
    st.none() | st.integers(0, (1 << 62) - 1),
    st.floats(0, 1),
    GAPS,
    GAPS,
    GAPS,
    GAPS,
    st.booleans(),
    st.none() | st.builds(Stutter, SECONDS, SECONDS),
)
PAGES = st.integers(1, 1 << 23).map(lambda pages: pages * 4096)  # eight of these are the most
SPECS = st.builds(
    RunSpec,
    workloads=st.lists(st.sampled_from(DEFAULT_WORKLOADS), min_size=1, unique=True).map(tuple),
    workers=st.integers(1, 50),
    zones=st.lists(st.builds(Zone, PAGES, st.integers(0, 3)), min_size=1, max_size=8).map(tuple),
    link_store=st.sampled_from(list(LINK_STORES)),
    duration_s=SECONDS,
    seed=st.integers(0, (1 << 62) - 1),
    audit_every_s=SECONDS,
    hang_timeout_s=st.just(3e6),
    prealloc=st.booleans(),
    jitter=st.none() | JITTERS,
    flight=st.sampled_from([0, 64, 1024]),
    faults=st.lists(FAULTS, max_size=3).map(tuple),
)


@pytest.fixture
def dry_run(tmp_path, capsys):
    """What ``shmstress run FILE --dry-run`` says of a file with this text: exit code, out, err."""

    def run(text, suffix="toml"):
        file = tmp_path / f"spec.{suffix}"
        file.write_text(text)
        code = cli.run(["run", str(file), "--dry-run"])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def spec_of(dry_run):
    """The resolved spec of a file with this text, as TOML; its seed is 1 by default."""

    def load(text, suffix="toml"):
        if not text.startswith("seed") and suffix == "toml":
            text = f"seed = 1\n{text}"
        code, out, err = dry_run(text, suffix)
        assert code == 0, err
        return tomllib.loads(out)

    return load


@given(JITTERS)
def test_a_jitter_prints_as_text_that_parses_to_it_again(jitter):
    assert parse_jitter(str(jitter)) == jitter


@given(SPECS)
def test_a_spec_prints_as_options_that_resolve_to_it_again(spec):
    texts = {name.replace("-", "_"): text for name, text in spec.options().items()}
    assert resolve(RawSpec(**texts), WORKLOADS, 2) == spec


@given(SPECS)
def test_the_toml_of_a_spec_resolves_to_it_again(spec):
    values = tomllib.loads(spec.toml())
    texts = {name.replace("-", "_"): option_text(name, value) for name, value in values.items()}
    assert resolve(RawSpec(**texts), WORKLOADS, 2) == spec


@given(FAULTS)
def test_a_fault_reads_from_a_table_of_numbers(fault):
    plain = to_builtins(fault, enc_hook=lambda writes: [writes.start, writes.stop - 1])
    table = {name: value for name, value in plain.items() if value is not None}
    assert parse_faults({fault.name: table}) == (fault,)


PAIRS = [
    ('workload = "churn,orders"', 'workload = ["churn", "orders"]'),
    ("workers = '3'", "workers = 3"),
    ('zones = "1MiB,2MiB@1"', 'zones = ["1MiB", "2MiB@1"]'),
    ('zones = "1MiB,2MiB@1"', '[[zones]]\nsize = "1MiB"\n[[zones]]\nsize = "2MiB"\nnode = 1'),
    ('duration = "90s"', "duration = 90"),
    ('seed = "0x10"', "seed = 16"),
    ('faults = "kill:every=100ms"', '[faults.kill]\nevery = "100ms"'),
    ('faults = "kill"', "[faults]\nkill = true"),
    (
        'faults = "kill,stop:every=1s,for=100ms"',
        '[faults]\nkill = "on"\nstop = "every=1s,for=100ms"',
    ),
    ('faults = "kill,stop"', 'faults = ["kill", "stop"]'),
    (
        'faults = "kill:every=50ms,kill:fuse=1..2000"',
        "[[faults.kill]]\nevery = 0.05\n[[faults.kill]]\nfuse = [1, 2000]",
    ),
    (
        'faults = "fail:nth=7,kind=page,pressure:pages=10%"',
        '[[faults]]\nfault = "fail"\nnth = 7\nkind = "page"\n'
        '[[faults]]\nfault = "pressure"\npages = 0.1',
    ),
    ('jitter = "on"', "jitter = true"),
    ('jitter = "on"', "[jitter]"),
    (
        'jitter = "seed=7,sites=20%,short=1/9,sleep=off,shuffle=off"',
        '[jitter]\nseed = 7\nsites = 0.2\nshort = "1/9"\nsleep = false\nshuffle = false',
    ),
    ('jitter = "stutter=500ms/5s"', '[jitter]\nstutter = {pause = "500ms", work = 5}'),
    ('flight = "64"', "flight = 64"),
    (
        'geometry = "fill=zero,min-free=1MiB,spins=0"',
        '[geometry]\nfill = "zero"\nmin-free = "1MiB"\nspins = 0',
    ),
    (
        'zones = "1MiB@1:4KiB+8KiB,2MiB"',
        '[[zones]]\nsize = "1MiB"\nnode = 1\nholes = ["4KiB+8KiB"]\n[[zones]]\nsize = "2MiB"',
    ),
]


@pytest.mark.parametrize("line, table", PAIRS, ids=[table for _, table in PAIRS])
def test_a_line_and_its_table_give_the_same_spec(spec_of, line, table):
    assert spec_of(table) == spec_of(line) != spec_of("")


def test_a_file_in_json_gives_the_same_spec(spec_of):
    text = (
        '{"seed": 1, "workload": ["churn"], "faults": {"kill": {"every": "1s"}}, "prealloc": true}'
    )
    assert spec_of(text, "json") == spec_of(
        'workload = "churn"\nprealloc = true\n[faults.kill]\nevery = "1s"'
    )


@pytest.mark.parametrize(
    "text, told",
    [
        (
            '[faults.kill]\nevery = "soon"',
            "faults.kill.every: 'soon'; use a duration such as 100ms",
        ),
        ("[faults.kill]\nevery = 0", "faults.kill.every: 0; use a duration such as 100ms"),
        ("[faults.kill]\nevery = inf", "faults.kill.every: inf; use a duration such as 100ms"),
        ("[faults.kill]\nevery = true", "faults.kill.every: True; use a duration such as 100ms"),
        ("[faults.kill]\nfuse = [9, 2]", "faults.kill.fuse: [9, 2]; use a number of writes"),
        ("[faults.kill]\nfuse = {}", "faults.kill.fuse: {}; use a number of writes"),
        ('[faults.kill]\nevry = "1s"', "faults.kill: 'evry' is unknown; did you mean 'every'?"),
        ("[faults.kil]", "faults: 'kil' is unknown; did you mean 'kill'?"),
        ("[faults.fail]", "faults.fail: use one of p=0.01, every=100 or nth=7"),
        ("[faults.fail]\nnth = 1.5", "faults.fail.nth: 1.5; use a number of at least 1"),
        ("[faults.fail]\nnth = 1\nkind = ['page']", "faults.fail.kind: \"['page']\" is unknown"),
        ("[[faults]]\nevery = 1", "faults: '' is unknown; known are kill"),
        ("faults = 3", "faults: 3; use a line, a list of lines, or tables"),
        ("[faults]\nkill = 3", "faults.kill: 3; use on, settings such as name=value, or a table"),
        ("[jitter.stutter]\npause = 1", "jitter.stutter: work is missing; add work=..."),
        ("jitter = false", "jitter: False; use on"),
        ("[workload]", "workload: {}; use"),
        ("[geometry]\nfil = 'zero'", "geometry: 'fil' is unknown; did you mean 'fill'?"),
        ("[[zones]]\nsiz = '1MiB'", "zones: 'siz' is unknown; known are size, node, holes"),
        ("workload = ['chrun']", "workload: 'chrun' is unknown; did you mean 'churn'?"),
        ("wrkload = 1", "key: 'wrkload' is unknown; did you mean 'workload'?"),
        ("workers = ", "settings file: "),
    ],
)
def test_a_mistake_in_a_file_is_one_line_with_place_and_cure(dry_run, text, told):
    code, _, error = dry_run(text)
    assert code == 4 and told in error and error.count("\n") == 1


def test_a_spec_survives_the_way_to_a_worker():
    spec = resolve(raw(faults="kill:fuse=1..9,pressure", jitter="stutter=1s/2s"), WORKLOADS, 2)
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_a_share_of_pages_prints_exactly():
    assert str(Pressure(0.125)) == "pressure:pages=12.5%,every=2s"


def test_the_library_of_settings_is_not_loaded_for_help():
    code = (
        "import sys; from stress import cli; code = cli.run(['--help']);"
        "sys.exit(code or 'msgspec' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], env=environment(), check=False)
    assert run.returncode == 0


def test_every_option_of_a_run_has_a_field_that_declares_it():
    ours = {"ram", *(field.encode_name for field in structs.fields(RunSpec))} - {"once"}
    assert ours == {field.encode_name for field in structs.fields(RawSpec)}


def test_a_zone_prints_as_its_text():
    assert exact_bytes(Zone(1 << 20, 1).bytes) + "@1" == str(Zone(1 << 20, 1))
