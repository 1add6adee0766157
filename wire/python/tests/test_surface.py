"""Import paths, enumerations, helper types, what is refused by name, and calls of real programs."""

import importlib
import os
import uuid

import pytest

FIRST, NEWEST = "datasystem", "yr.datasystem"


@pytest.fixture(params=[FIRST, NEWEST])
def package(request):
    return request.param


def module(package, name=None):
    return importlib.import_module(package + "." + name if name else package)


FIRST_NAMES = (
    "Buffer ConsistencyType DsClient HeteroClient ObjectClient KVClient Status SubconfigType"
    " WriteMode Context FutureTimeoutException Blob DeviceBlobList"
).split()
NEWEST_NAMES = FIRST_NAMES + (
    "DsTensorClient CopyRange MetaInfo Future StreamClient ServiceDiscovery"
    " ServiceDiscoveryOptions CoordinatorServiceDiscovery CoordinatorServiceDiscoveryOptions"
    " ServiceAffinityPolicy TransferEngine Result ErrorCode"
).split()


def test_every_name_of_all_is_there():
    first, newest = module(FIRST), module(NEWEST)
    assert set(FIRST_NAMES) <= set(first.__all__)
    assert set(NEWEST_NAMES) <= set(newest.__all__)
    for owner in (first, newest):
        for name in owner.__all__:
            assert getattr(owner, name) is not None
        with pytest.raises(AttributeError):
            owner.Nonsense
    for name in ("DsTensorClient", "CopyRange", "Future", "MetaInfo"):
        assert getattr(first, name) is not None
    scope = {}
    exec("from datasystem import *", scope)
    exec("from yr.datasystem import *", scope)
    assert "KVClient" in scope


def test_modules_reexport_what_programs_import(package):
    kv, objects = module(package, "kv_client"), module(package, "object_client")
    for name in (
        "KVClient WriteMode CacheType SetParam ExistenceOpt ReadParam ReadOnlyBuffer".split()
    ):
        assert hasattr(kv, name)
    assert kv.WriteMode is objects.WriteMode
    assert module(package, "hetero_client").HeteroClient is module(package).HeteroClient
    assert module(package, "ds_tensor_client").DsTensorClient is module(package).DsTensorClient
    from yr import datasystem

    assert datasystem.KVClient and datasystem.DsTensorClient


def test_enumerations_have_the_old_numbers(package):
    kv, objects = module(package, "kv_client"), module(package, "object_client")
    assert {mode.name: mode.value for mode in kv.WriteMode} == {
        "NONE_L2_CACHE": 0,
        "WRITE_THROUGH_L2_CACHE": 1,
        "WRITE_BACK_L2_CACHE": 2,
        "NONE_L2_CACHE_EVICT": 3,
        "WRITE_BACK_L2_CACHE_EVICT": 4,
    }
    assert (objects.ConsistencyType.PRAM.value, objects.ConsistencyType.CAUSAL.value) == (0, 1)
    assert kv.CacheType.MEMEORY is kv.CacheType.MEMORY and kv.CacheType.DISK.value == 1
    assert (kv.ExistenceOpt.NONE.value, kv.ExistenceOpt.NX.value) == (0, 1)
    stream = module(package).SubconfigType
    assert (stream.STREAM.value, stream.ROUND_ROBIN.value, stream.KEY_PARTITIONS.value) == (0, 1, 2)


def test_set_param_has_its_defaults(package):
    kv = module(package, "kv_client")
    param = kv.SetParam()
    assert param.write_mode is kv.WriteMode.NONE_L2_CACHE and param.ttl_second == 0
    assert param.existence is kv.ExistenceOpt.NONE and param.cache_type is kv.CacheType.MEMEORY
    param.write_mode = kv.WriteMode.NONE_L2_CACHE_EVICT


def test_blobs_take_positions_and_names(package):
    hetero = module(package, "hetero_client")
    blob = hetero.Blob(4096, 100)
    listed = hetero.DeviceBlobList(dev_idx=1, blob_list=[blob])
    listed.append_blob(hetero.Blob(dev_ptr=1, size=2))
    assert len(listed.get_blob_list()) == 2 and listed.dev_idx == 1
    listed.set_dev_idx(3)
    listed.set_src_offset(4)
    assert hetero.DeviceBlobList(0, [blob], 7).src_offset == 7
    blob.set_dev_ptr(8)
    blob.set_size(9)
    assert (blob.dev_ptr, blob.size) == (8, 9)


def test_validator_and_context(package):
    util = module(package, "util")
    with pytest.raises(TypeError, match="The input of x has invalid type, valid type: "):
        util.Validator.check_args_types([["x", 1, str]])
    with pytest.raises(RuntimeError, match="Invalid n size 5 is set, which should be between"):
        util.Validator.check_param_range("n", 5, 1, 4)
    with pytest.raises(RuntimeError):
        util.Validator.check_key_exists({}, ["k"])
    util.Validator.check_key_exists({"k": 1}, ["k"])
    util.Context.set_trace_id("trace-1")
    with pytest.raises(TypeError):
        util.Context.set_trace_id(1)
    for bad in ("a b", "a" * 256):
        with pytest.raises(RuntimeError):
            util.Context.set_trace_id(bad)
    assert util.Status().is_ok() and util.Status().to_string() == "code: [OK], msg: []"


def test_streams_connect_and_are_refused_by_name(daemon):
    client = module(NEWEST, "stream_client").StreamClient(daemon.host, daemon.port)
    client.init()
    for call in (
        lambda: client.create_producer("s"),
        lambda: client.subscribe("s", "n", 0),
        lambda: client.delete_stream("s"),
        lambda: client.query_global_producer_num("s"),
        lambda: client.query_global_consumer_num("s"),
    ):
        with pytest.raises(RuntimeError, match="StreamClient.* is not supported yet"):
            call()


def test_device_calls_that_do_not_exist_yet_are_refused_by_name(package, daemon):
    hetero = module(package, "hetero_client").HeteroClient(
        daemon.host, daemon.port, enable_remote_h2d=False
    )
    tensors = module(package, "ds_tensor_client").DsTensorClient(daemon.host, daemon.port, 0)
    for client, calls in (
        (hetero, ["pre_register_device_memory"]),
        (tensors, ["dev_mget_into_tensor"]),
    ):
        client.init()
        for call in calls:
            with pytest.raises(RuntimeError, match=call + " is not supported yet"):
                getattr(client, call)(*[["k"]] * (3 if "mget_into" in call else 2))
        assert client.delete(["nothing"]) == []
        assert client.exist(["nothing"]) == [False]


def test_the_transfer_engine_is_refused_by_name():
    with pytest.raises(RuntimeError, match="TransferEngine is not supported yet"):
        module(NEWEST).TransferEngine()


# Calls of real programs, as they make them.


def test_a_replay_buffer_writes_in_place_with_threads(daemon):
    from concurrent.futures import ThreadPoolExecutor

    from yr import datasystem

    client = datasystem.KVClient(daemon.host, daemon.port)
    client.init()
    keys = ["tq-%s-%d" % (uuid.uuid4(), at) for at in range(100)]
    payloads = [b"%d" % at * 900 for at in range(100)]
    buffers = client.mcreate(keys, [len(payload) for payload in payloads])

    def fill(at):
        buffers[at].MutableData()[:] = payloads[at]

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(fill, range(100)))
    client.mset_buffer(buffers)
    assert [bytes(memoryview(one)) for one in client.get_buffers(keys)] == payloads
    client.delete(keys)
    with pytest.raises(RuntimeError, match="Key not found"):
        client.get_buffers(keys)


def test_a_connector_sends_between_stages(daemon):
    from datasystem.kv_client import KVClient, SetParam, WriteMode

    assert SetParam
    client = KVClient(daemon.host, daemon.port)
    client.init()
    client.set("rid:0_1", b"payload", WriteMode.NONE_L2_CACHE_EVICT)
    assert client.get(["rid:0_1"], False, 1000) == [b"payload"]
    client.delete(["rid:0_1"])


def test_an_encoder_cache_stores_metadata(daemon):
    from datasystem.kv_client import KVClient, WriteMode

    client = KVClient(daemon.host, daemon.port)
    client.init()
    keys = ["ec_meta_%d" % at for at in range(10)]
    assert client.mset(keys, [b"m" * 10] * 10, WriteMode.NONE_L2_CACHE_EVICT) == []
    assert client.get(keys) == [b"m" * 10] * 10


def test_an_inference_backend_asks_before_it_loads(daemon, monkeypatch):
    # Whatever cards this machine has: what this test is about are calls that find none.
    monkeypatch.setenv("CHARIOT_DEVICE_BACKEND", "ascend")
    monkeypatch.setenv("ASCEND_RT_LIB_DIR", os.path.dirname(__file__))
    from yr.datasystem.hetero_client import HeteroClient
    from yr.datasystem.kv_client import KVClient, SetParam
    from yr.datasystem.object_client import WriteMode

    param = SetParam()
    param.write_mode = WriteMode.NONE_L2_CACHE_EVICT
    for options in (
        dict(connect_timeout_ms=9000, req_timeout_ms=0, enable_remote_h2d=True),
        dict(enable_exclusive_connection=True, enable_remote_h2d=False),
    ):
        store = HeteroClient(daemon.host, int(daemon.port), **options)
        store.init()
        kv = KVClient(daemon.host, daemon.port)
        kv.init()
        key = "Qwen2.5-7B@pcp0@dcp0@head_or_tp_rank:0@" + "f" * 300
        kv.set(key, b"v", param.write_mode)
        assert store.batch_is_exist([key, key + "0"]) == [1, 0]
        assert store.exist([key]) == [True]
        with pytest.raises(RuntimeError, match="no ascend backend.*ASCEND_RT_LIB_DIR"):
            store.mset_d2h_from_multi_buffers([key], [[1]], [[1]], param)


def test_the_quick_start_of_the_first_release(daemon):
    from datasystem.ds_client import DsClient

    client = DsClient(daemon.host, daemon.port)
    client.init()
    client.kv().set("quick", "start")
    assert client.kv().get(["quick"], True) == ["start"]
