"""Which worker runs what, when."""

from hypothesis import given
from hypothesis import strategies as st

from stress.run.plan import slices_of
from stress.spec import RunSpec, Zone
from stress.workloads import DEFAULT_WORKLOADS


def spec(workloads, workers, duration_s=20.0, seed=1):
    return RunSpec(tuple(workloads), workers, (Zone(1 << 20),), duration_s=duration_s, seed=seed)


RUNS = st.builds(
    spec,
    st.lists(st.sampled_from(DEFAULT_WORKLOADS), min_size=1, unique=True),
    st.integers(1, 64),
    st.floats(0.1, 500),
    st.integers(0, 1 << 40),
)


@given(RUNS)
def test_every_workload_gets_its_turn(run):
    seen = {name for part in slices_of(run) for name in part.assignment.values()}
    assert seen == set(run.workloads)


@given(RUNS)
def test_every_worker_is_busy_in_every_slice(run):
    assert all(list(part.assignment) == list(range(run.workers)) for part in slices_of(run))


@given(RUNS)
def test_there_are_at_least_two_stutter_points_and_the_slices_fill_the_duration(run):
    slices = slices_of(run)
    assert len(slices) >= 2
    assert abs(sum(part.seconds for part in slices) - run.duration_s) < 1e-6 * run.duration_s


@given(RUNS)
def test_peers_form_circles_of_one_workload(run):
    for part in slices_of(run)[:3]:
        peers = [part.peer_of(cpu) for cpu in part.assignment]
        assert sorted(peers) == list(part.assignment)  # one producer for every consumer
        assert all(part.assignment[a] == part.assignment[b] for a, b in enumerate(peers))


def test_few_workloads_are_dealt_round_robin_and_keep_their_workers():
    slices = slices_of(spec(["churn", "frag"], 5))
    dealt = ["churn", "frag", "churn", "frag", "churn"]
    assert all(list(part.assignment.values()) == dealt for part in slices)


def test_two_workers_never_run_alone_while_they_take_turns():
    slices = slices_of(spec(DEFAULT_WORKLOADS, 6))
    for part in slices:
        names = list(part.assignment.values())
        assert all(names.count(name) >= 2 for name in names)


def test_the_order_of_later_cycles_comes_from_the_seed():
    runs = [slices_of(spec(DEFAULT_WORKLOADS, 4, 500, seed)) for seed in range(5)]
    orders = {tuple(tuple(part.assignment.values()) for part in slices) for slices in runs}
    assert len(orders) == 5
