"""Acceptance of ``HeteroClient``: what programs of every generation call, one after another.

Host memory stands in for the cards (`test_simulated_card` has cards); the two packages differ in
their constructors alone."""

import os
import signal
import threading
import time

import pytest

from conftest import until
from test_device_objects import SIZES, Objects, connect, key, run
from test_kv import FIRST, NEWEST, module


@pytest.fixture(params=(FIRST, NEWEST))
def package(request):
    return request.param


@pytest.fixture(autouse=True)
def host_backend(monkeypatch):
    monkeypatch.setenv("CHARIOT_DEVICE_BACKEND", "host")


def threads():
    return len(os.listdir("/proc/self/task"))


def test_an_inference_backend_stores_and_loads(package, daemon):
    """Addresses and sizes of layers, keys that are long, names of arguments of two releases."""
    hetero = module(package, "hetero_client")
    for options in (
        dict(connect_timeout_ms=9000, req_timeout_ms=0, enable_remote_h2d=True),
        dict(enable_exclusive_connection=True, enable_remote_h2d=False),
    ):
        store = hetero.HeteroClient(daemon.host, int(daemon.port), **options)
        store.init()
        names = ["model@pcp0@dcp0@head_or_tp_rank:0@" + key() + "f" * 300 for _ in range(3)]
        param = module(package, "kv_client").SetParam(
            write_mode=module(package, "object_client").WriteMode.NONE_L2_CACHE_EVICT
        )
        given = Objects(package, [4096] * 9, [1, 2, 3])
        sizes = [[4096] * 9] * 3
        assert store.batch_is_exist(names) == [0, 0, 0]
        store.mset_d2h_from_multi_buffers(names, given.addresses, sizes, param)
        assert store.batch_is_exist(names) == [1, 1, 1]
        back = Objects(package, [4096] * 9, count=3)
        assert store.mget_h2d_from_multi_buffers(names, back.addresses, sizes, 0) == []
        assert all(back.hold(at, at + 1) for at in range(3))


def test_calls_take_the_names_of_their_arguments(package, daemon):
    client, hetero = connect(package, daemon), module(package, "hetero_client")
    name, given, back = key(), Objects(package, [64], [9]), Objects(package, [64])
    lists = [hetero.DeviceBlobList(dev_idx=0, blob_list=given.lists[0].get_blob_list())]
    param = hetero.SetParam()
    client.async_mset_d2h(keys=[name], data_blob_list=lists, set_param=param).get(timeout_ms=60000)
    future = client.async_mget_h2d(keys=[name], data_blob_list=back.lists, sub_timeout_ms=0)
    assert future.get(timeout_ms=60000) == [] and back.hold(0, 9)
    assert client.mget_h2d(keys=[name], data_blob_list=back.lists, sub_timeout_ms=10) == []
    client.mset_d2h(keys=[key()], data_blob_list=lists, set_param=param)
    assert client.get_meta_info(keys=[name], is_dev_key=False)[0] == []
    assert client.dev_mset(keys=[name], data_blob_list=lists) == []
    assert client.dev_delete(keys=[name]) == []


def test_a_life_in_seconds_ends_an_object(package, daemon):
    client, name = connect(package, daemon), key()
    param = module(package, "kv_client").SetParam()
    param.ttl_second = 1
    client.mset_d2h([name], Objects(package, [100], [1]).lists, param)
    until("the object's life is over", lambda: client.exist([name]) == [False])


def test_a_get_waits_for_its_key(package, daemon):
    client, name, back = connect(package, daemon), key(), Objects(package, SIZES)
    future = client.async_mget_h2d([name], back.lists, 60000)
    connect(package, daemon).mset_d2h([name], Objects(package, SIZES, [4]).lists)
    assert future.get(60000) == [] and back.hold(0, 4)


def test_a_future_of_which_all_failed_raises_each_time(package, daemon):
    client = connect(package, daemon)
    future = client.async_mget_h2d([key()], Objects(package, [8]).lists, 0)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="Key not found"):
            future.get(60000)
    for wrong in ("1", None):
        with pytest.raises(TypeError, match="has invalid type"):
            future.get(wrong)


def test_too_many_keys_are_refused(package, daemon):
    client, given = connect(package, daemon), Objects(package, [8], [1])
    for call in (client.mset_d2h, client.dev_mset, client.dev_subscribe):
        with pytest.raises(RuntimeError, match="objectKeys size exceed 10000"):
            call(["k"] * 10_001, given.lists * 10_001)
    for call in (client.dev_delete, client.dev_local_delete, client.async_dev_delete):
        with pytest.raises(RuntimeError, match="keys list should not be empty"):
            call([])
        with pytest.raises(RuntimeError, match="objectKeys size exceed 10000"):
            call(["k"] * 10_001)
        with pytest.raises(TypeError, match="has invalid type"):
            call("k")


def test_a_key_is_offered_anew_as_soon_as_it_was_deleted(package, daemon):
    """Nothing of the deletion may come later and meet the new offer."""
    one, other, name = connect(package, daemon), connect(package, daemon), key()
    for round_ in range(20):
        given, back = Objects(package, [3000], [round_]), Objects(package, [3000], card=1)
        assert one.dev_mset([name], given.lists) == []
        assert other.dev_mget([name], back.lists, 60000) == [] and back.hold(0, round_)
        assert other.dev_local_delete([name]) == []
        deleted = one.dev_delete([name]) if round_ % 2 else one.async_dev_delete([name]).get()
        assert deleted == []


def test_a_key_that_is_offered_is_not_offered_twice(package, daemon):
    client, name, given = connect(package, daemon), key(), Objects(package, [10, 10], [1, 2])
    assert client.dev_mset([name], given.lists[:1]) == []
    assert client.dev_mset([name, name + "2"], given.lists) == [name]
    with pytest.raises(RuntimeError, match="already exist"):
        client.dev_mset([name], given.lists[:1])
    other = connect(package, daemon)
    with pytest.raises(RuntimeError, match="Blobs count mismatch in devBlobList"):
        other.dev_mget([name], Objects(package, [20], card=1).lists, 1000)
    assert client.dev_delete([name, name + "2"]) == []


def test_who_has_received_provides(package, daemon):
    """The first provider leaves; the third gets it from the second."""
    clients, name = [connect(package, daemon) for _ in range(3)], key()
    assert clients[0].dev_mset([name], Objects(package, [500_000], [6]).lists) == []
    second = Objects(package, [500_000], card=1)
    assert clients[1].dev_mget([name], second.lists, 60000) == []
    assert clients[0].dev_local_delete([name]) == []
    third = Objects(package, [500_000], card=2)
    assert clients[2].dev_mget([name, key()], third.lists + Objects(package, [1], card=2).lists, 0)
    assert third.hold(0, 6)
    assert clients[0].dev_delete([name]) == []


def test_each_key_of_a_subscription_is_ready_by_itself(package, daemon):
    one, other = connect(package, daemon), connect(package, daemon)
    first, last = key(), key()
    into = Objects(package, [9000], count=2, card=1)
    futures = other.dev_subscribe([first, last], into.lists)
    sent = one.dev_publish([last], Objects(package, [9000], [8]).lists)
    assert futures[1].get(60000) == [] and into.hold(1, 8) and sent[0].get(60000) == []
    with pytest.raises(module(package, "hetero_client").FutureTimeoutException):
        futures[0].get(1)
    one.dev_publish([first], Objects(package, [9000], [7]).lists)
    assert futures[0].get(60000) == [] and into.hold(0, 7)


def test_two_that_send_to_each_other_do_not_wait_for_ever(package, daemon):
    """Each offers, then receives what the other offers."""
    names, done = [key(), key()], [None, None]

    def side(own):
        client = connect(package, daemon)
        sent = client.dev_publish([names[own]], Objects(package, [80_000], [own], card=own).lists)
        into = Objects(package, [80_000], card=own)
        got = client.dev_subscribe([names[1 - own]], into.lists)[0].get(60000)
        done[own] = (got, sent[0].get(60000), into.hold(0, 1 - own))

    both = [threading.Thread(target=side, args=(own,)) for own in (0, 1)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert done == [([], [], True)] * 2


def test_an_object_does_not_move_to_its_own_card(package, daemon):
    client, name = connect(package, daemon), key()
    client.dev_publish([name], Objects(package, [10], [1]).lists)
    with pytest.raises(RuntimeError, match="another card than its own"):
        client.dev_subscribe([name], Objects(package, [10]).lists)[0].get(60000)


def test_a_signal_reaches_a_program_that_waits(package, daemon):
    client = connect(package, daemon)
    future = client.dev_subscribe([key()], Objects(package, [10]).lists)[0]

    class Alarm(Exception):
        pass

    def ring(*_arguments):
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Alarm):
            future.get(60000)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_client_that_goes_takes_its_threads_and_its_offers_along(package, daemon):
    hetero = module(package, "hetero_client")

    def use():
        one, other = connect(package, daemon), connect(package, daemon)
        name, back = key(), Objects(package, [5000], card=1)
        assert one.async_mset_d2h([name], Objects(package, [5000], [1]).lists).get(60000) == []
        assert one.dev_mset([name], Objects(package, [5000], [1]).lists) == []
        assert other.dev_mget([name], back.lists, 60000) == []
        return name, other.dev_subscribe([key()], back.lists)[0]

    use()
    before = None
    for _ in range(3):
        name, waiting = use()
        # The clients are gone: nobody waits for a minute any more.
        begun = time.monotonic()
        with pytest.raises(RuntimeError, match="closed"):
            waiting.get(15000)
        assert time.monotonic() - begun < 15
        if before is None:
            before = threads()
        until("the threads have ended", lambda: threads() <= before)
        with pytest.raises(RuntimeError, match="Key not found"):
            connect(package, daemon).dev_mget([name], Objects(package, [5000]).lists, 0)
    assert issubclass(hetero.FutureTimeoutException, Exception)


def test_a_forked_child_is_told_and_ends(package, daemon):
    text = run(
        """
        import ctypes, os, sys
        from %s.hetero_client import HeteroClient, Blob, DeviceBlobList
        held = ctypes.create_string_buffer(64)
        lists = [DeviceBlobList(0, [Blob(ctypes.addressof(held), 64)])]
        client = HeteroClient(sys.argv[1], int(sys.argv[2]))
        client.init()
        client.mset_d2h(["fork/1"], lists)
        client.dev_mset(["fork/1"], lists)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                client.mset_d2h(["fork/2"], lists)
            except RuntimeError as error:
                code = 0 if "fork" in str(error) else 2
            # What was inherited ends here without its parent's threads.
            del client
            own = HeteroClient(sys.argv[1], int(sys.argv[2]))
            own.init()
            own.mset_d2h(["fork/3"], lists)
            os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print(client.exist(["fork/1", "fork/2", "fork/3"]), client.mget_h2d(["fork/1"], lists))
        """
        % package,
        daemon,
    )
    assert text.split("\n")[:2] == ["0", "[True, False, True] []"]


def test_what_the_environment_names_must_be_a_backend(package, daemon, monkeypatch):
    monkeypatch.setenv("CHARIOT_DEVICE_BACKEND", "abacus")
    with pytest.raises((RuntimeError, ValueError), match="auto, ascend, cuda or host"):
        connect(package, daemon).mset_d2h([key()], Objects(package, [8], [1]).lists)
