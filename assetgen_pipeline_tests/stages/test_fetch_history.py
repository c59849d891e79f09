from assetgen_pipeline.stages.fetch_history import FetchHistory, add_to_history, read_history
from assetgen_pipeline.testing.object_store import InMemoryObjectStore

NAME = "artifacts/team.demo.0a1b2c3d/run/fetch_history.json"


class Busy(InMemoryObjectStore):
    """Another step writes between our look and our write, once."""

    def __init__(self, meanwhile):
        super().__init__()
        self.meanwhile = meanwhile

    def write(self, name, data, **options):
        other, self.meanwhile = self.meanwhile, None
        if other is not None:
            other(self)
        return super().write(name, data, **options)


def test_a_run_begins_with_all_of_its_time():
    assert read_history(NAME, store=InMemoryObjectStore()) == FetchHistory()


def test_steps_add_up_and_hosts_that_answer_again_are_forgotten():
    store = InMemoryObjectStore()
    add_to_history(NAME, FetchHistory(spent_s=10, failures={"a": 3, "b": 2, "c": 0}), store=store)

    add_to_history(NAME, FetchHistory(spent_s=5, failures={"b": 0, "d": 1}), store=store)

    assert read_history(NAME, store=store) == FetchHistory(spent_s=15, failures={"a": 3, "d": 1})


def test_a_step_that_another_overtakes_loses_nothing():
    other = FetchHistory(spent_s=1, failures={"x": 3})
    store = Busy(lambda store: add_to_history(NAME, other, store=store))

    add_to_history(NAME, FetchHistory(spent_s=2), store=store)

    assert read_history(NAME, store=store) == FetchHistory(spent_s=3, failures={"x": 3})


def test_a_history_that_is_replaced_while_it_is_read_is_read_again():
    class Moving(InMemoryObjectStore):
        moved = False

        def read(self, name, *, generation=None):
            if not self.moved:
                self.moved = True
                add_to_history(NAME, FetchHistory(spent_s=1), store=self)
            return super().read(name, generation=generation)

    store = Moving()
    store.moved = True
    add_to_history(NAME, FetchHistory(spent_s=2), store=store)
    store.moved = False

    assert read_history(NAME, store=store).spent_s == 3
