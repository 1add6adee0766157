// A program as somebody wrote it for the first release: its headers, its names, nothing of ours.
#include <chrono>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "datasystem/context/context.h"
#include "datasystem/datasystem.h"
#include "datasystem/hetero_cache/hetero_client.h"
#include "datasystem/kv_cache/kv_client.h"
#include "datasystem/kv_cache/read_only_buffer.h"
#include "datasystem/object_cache/object_client.h"
#include "datasystem/utils/connection.h"
#include "datasystem/utils/optional.h"
#include "datasystem/utils/status.h"
#include "datasystem/utils/string_view.h"

#include "check.h"

using namespace datasystem;

static bool Has(const Status &status, const char *text)
{
    const bool has = status.ToString().find(text) != std::string::npos;
    if (!has) {
        std::cerr << status.ToString() << '\n';
    }
    return has;
}

static void Values(KVClient &client)
{
    CHECK(client.Set("key", "value").IsOk());
    std::string value;
    CHECK(client.Get("key", value).IsOk() && value == "value");
    SetParam param;
    param.writeMode = WriteMode::NONE_L2_CACHE_EVICT;
    param.ttlSecond = 60;
    CHECK(client.Set("key", std::string("other"), param).IsOk());
    CHECK(client.Get("key", value, 10).IsOk() && value == "other");
    // Set-if-absent: a success that changes nothing.
    param.existence = ExistenceOpt::NX;
    CHECK(client.Set("key", "third", param).IsOk());
    CHECK(client.Get("key", value).IsOk() && value == "other");
    const std::string made = client.Set(StringView("generated"));
    CHECK(!made.empty() && client.Get(made, value).IsOk() && value == "generated");

    Optional<ReadOnlyBuffer> buffer;
    const Status lent = client.Get("key", buffer);
    CHECK((lent.IsOk() || Has(lent, "a value")) && buffer);
    CHECK(buffer->GetSize() == 5);
    CHECK(buffer->RLatch().IsOk());
    CHECK(std::memcmp(buffer->ImmutableData(), "other", 5) == 0);
    CHECK(buffer->UnRLatch().IsOk());

    std::vector<std::string> values;
    CHECK(client.Get({"key", "none", made}, values).IsOk());
    CHECK(values.size() == 3 && values[0] == "other" && values[1].empty());
    std::vector<Optional<ReadOnlyBuffer>> buffers;
    CHECK(client.Get({"none", "key"}, buffers, 1).IsOk());
    CHECK(buffers.size() == 2 && !buffers[0] && buffers[1].value().GetSize() == 5);
    Status status = client.Get({"none", "neither"}, buffers);
    CHECK(status.GetCode() == StatusCode::K_NOT_FOUND && Has(status, "code: [Key not found], msg: ["));
    CHECK(Has(status, "Cannot get objects from worker"));

    CHECK(client.Read({{"key", 1, 3}, {"none", 0, 1}}, buffers).IsOk());
    CHECK(buffers[0]->GetSize() == 3 && !buffers[1]);
    CHECK(std::memcmp(buffers[0]->ImmutableData(), "the", 3) == 0);
    CHECK(Has(client.Read({{"key", 9, 1}}, buffers), "The read offset 9 out of range [0,5)"));
    CHECK(client.Read({{"key", 0, 1}, {"key", 1, 1}}, buffers).GetCode() == K_INVALID);

    std::vector<std::string> failed;
    CHECK(client.Del("key").IsOk() && client.Del("key").IsOk());
    CHECK(client.Del({made, "none"}, failed).IsOk() && failed.empty());
    std::string key;
    CHECK(client.GenerateKey("", key).IsOk() && key.size() == 36);
    CHECK(client.GenerateKey("mine", key).IsOk() && key.find("mine") == 0);
    CHECK(client.HealthCheck().IsOk());
    std::vector<bool> exists;
    CHECK(client.Exist({made, "none"}, exists).IsOk() && exists.size() == 2 && !exists[0]);
}

static void Batches(KVClient &client)
{
    std::vector<std::string> failed;
    MSetParam param{WriteMode::NONE_L2_CACHE, 0, ExistenceOpt::NONE};
    CHECK(client.MSet({"a", "b", "a"}, {"1", "2", "3"}, failed, param).IsOk());
    CHECK(failed.size() == 1 && failed[0] == "a");
    std::vector<std::string> values;
    CHECK(client.Get({"a", "b"}, values).IsOk() && values[0] == "1" && values[1] == "2");
    param.existence = ExistenceOpt::NX;
    CHECK(client.MSet({"a", "c"}, {"9", "3"}, failed, param).IsOk() && failed.empty());
    CHECK(client.Get({"a", "c"}, values).IsOk() && values[0] == "1" && values[1] == "3");
    CHECK(Has(client.MSet({"a"}, {"1", "2"}, failed), "The number of key and value is not the same."));
    CHECK(Has(client.MSet({"a"}, {""}, failed),
              "The value associated with key a should not be empty."));
    // Eight keys at most, set-if-absent only, all or nothing.
    CHECK(Has(client.MSetTx({"x"}, {"1"}, {WriteMode::NONE_L2_CACHE, 0, ExistenceOpt::NONE}),
              "The MSetTx only supports set not existence key now."));
    const std::vector<std::string> nine(9, "x");
    CHECK(Has(client.MSetTx(nine, std::vector<StringView>(9, "v"), param),
              "The maximum size of keys in single operation is 8."));
    CHECK(client.MSetTx({"x", "y"}, {"1", "2"}, param).IsOk());
    CHECK(client.Get({"x", "y"}, values).IsOk() && values[0] == "1" && values[1] == "2");
    CHECK(client.MSetTx({"z", "x"}, {"1", "2"}, param).GetCode() == K_OC_KEY_ALREADY_EXIST);
    CHECK(client.Get({"z", "x"}, values).IsOk() && values[0].empty() && values[1] == "1");
    CHECK(Has(client.MSetTx({"q", "q"}, {"1", "2"}, param),
              "The input parameter contains duplicate key q."));

    std::vector<uint64_t> sizes;
    CHECK(client.QuerySize({"a", "none"}, sizes).IsOk() && sizes[0] == 1);
    CHECK(client.Expire({"a", "none"}, 60, failed).IsOk() && failed.size() == 1);
    CHECK(client.Expire({"none"}, 60, failed).GetCode() == K_NOT_FOUND);

    std::shared_ptr<Buffer> buffer;
    CHECK(client.Create("zero", 4, SetParam(), buffer).IsOk() && buffer->GetSize() == 4);
    CHECK(buffer->WLatch().IsOk() && buffer->MemoryCopy("copy", 4).IsOk());
    CHECK(buffer->UnWLatch().IsOk() && client.Set(buffer).IsOk());
    std::string value;
    CHECK(client.Get("zero", value).IsOk() && value == "copy");
    std::vector<std::shared_ptr<Buffer>> buffers;
    CHECK(client.MCreate({"m1", "m2"}, {1, 2}, SetParam(), buffers).IsOk());
    CHECK(buffers[0]->MemoryCopy("1", 1).IsOk() && buffers[1]->MemoryCopy("22", 2).IsOk());
    CHECK(client.MSet(buffers).IsOk() && client.Get("m2", value).IsOk() && value == "22");
}

static void Errors(KVClient &client)
{
    std::string value;
    std::vector<std::string> values;
    std::vector<std::string> failed;
    CHECK(Has(client.Set("", "v"), "The objectKey should not be empty."));
    CHECK(client.Set("", "v").GetCode() == K_INVALID);
    CHECK(Has(client.Set("with space", "v"), "contains illegal char(s)"));
    CHECK(Has(client.Set(std::string(1025, 'k'), "v"), "contains illegal char(s)"));
    CHECK(Has(client.Set("k", ""), "The dataSize value should be bigger than zero."));
    CHECK(Has(client.Get(std::vector<std::string>(), values), "The keys are empty"));
    CHECK(Has(client.Get(std::vector<std::string>(10001, "k"), values),
              "The objectKeys size exceed 10000."));
    CHECK(Has(client.Get("k", value, -1), "is out of range, which should be between[0, 2147483647]"));
    SetParam param;
    param.writeMode = WriteMode::WRITE_THROUGH_L2_CACHE;
    CHECK(Has(client.Set("k", "v", param), "but L2_cache_type is set to none."));
    CHECK(client.Get("nobody", value, 5).GetCode() == K_NOT_FOUND);
    KVClient idle(ConnectOptions{"127.0.0.1", 1});
    CHECK(Has(idle.Set("k", "v"), "Client has not been initialized yet"));
    CHECK(idle.HealthCheck().IsError());
    CHECK(idle.Init().GetCode() == K_RPC_UNAVAILABLE);
    CHECK(Has(KVClient(ConnectOptions{"127.0.0.1", 1, 0}).Init(),
              "The connection timeout must be a positive integer."));
    ConnectOptions curve{"127.0.0.1", 1};
    curve.clientPublicKey = "key";
    CHECK(Has(KVClient(curve).Init(), "curve keys"));
}

static void Waits(KVClient &client)
{
    std::thread writer([&client] { CHECK(client.Set("late", "here").IsOk()); });
    std::string value;
    CHECK(client.Get("late", value, 20000).IsOk() && value == "here");
    writer.join();
}

static void Objects(ObjectClient &client, KVClient &values)
{
    CreateParam param;
    param.consistencyType = ConsistencyType::CAUSAL;
    std::shared_ptr<Buffer> buffer;
    CHECK(client.Create("object", 6, param, buffer).IsOk() && buffer->GetSize() == 6);
    CHECK(buffer->WLatch(5).IsOk());
    CHECK(buffer->MemoryCopy("first!", 6).IsOk());
    std::vector<Optional<Buffer>> found;
    CHECK(client.Get({"object"}, 0, found).GetCode() == K_NOT_FOUND);
    CHECK(buffer->Publish().IsOk());
    CHECK(client.Get({"object", "none"}, 0, found).IsOk() && found[0] && !found[1]);
    CHECK(std::memcmp(found[0]->ImmutableData(), "first!", 6) == 0);
    CHECK(Has(found[0]->RLatch(1), "Rlatch timeout"));
    CHECK(buffer->UnWLatch().IsOk() && found[0]->RLatch(1).IsOk() && found[0]->UnRLatch().IsOk());
    std::memcpy(buffer->MutableData(), "second", 6);
    CHECK(buffer->Publish().IsOk());
    std::string value;
    CHECK(values.Get("object", value).IsOk() && value == "second");
    CHECK(buffer->Seal().IsOk());
    CHECK(buffer->Publish().GetCode() == K_OC_ALREADY_SEALED);
    CHECK(Has(buffer->MemoryCopy("third!", 6), "The client object has already been sealed."));

    // A nested key lives as long as its parent; a reference keeps what it names.
    const uint8_t bytes[] = {'x', 'y'};
    std::vector<std::string> failed;
    CHECK(client.Put("child", bytes, 2, param).IsOk());
    CHECK(client.Put("parent", bytes, 2, param, {"child"}).IsOk());
    CHECK(client.GIncreaseRef({"parent"}, failed).IsOk() && failed.empty());
    CHECK(client.QueryGlobalRefNum("parent") == 1);
    CHECK(values.Del("child").IsOk());
    CHECK(client.Get({"child"}, 0, found).IsOk());
    CHECK(client.GDecreaseRef({"parent", "unknown"}, failed).IsOk() && failed.empty());
    CHECK(client.QueryGlobalRefNum("parent") == 0);
    for (int tries = 0; client.Get({"child"}, 0, found).IsOk(); ++tries) {
        CHECK(tries < 2000);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    CHECK(Has(client.Create("", 1, param, buffer), "The objectKey should not be empty."));
    CHECK(Has(client.Create("o", 0, param, buffer), "should be bigger than zero."));
    std::string key;
    CHECK(client.GenerateObjectKey("", key).IsOk() && !key.empty());
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    ConnectOptions options;
    options.host = argv[1];
    options.port = std::stoi(argv[2]);
    options.connectTimeoutMs = 10000;
    DsClient client(options);
    CHECK(client.Init().IsOk());
    CHECK(Context::SetTraceId("trace-1").IsOk());
    Values(*client.KV());
    Batches(*client.KV());
    Errors(*client.KV());
    Waits(*client.KV());

    std::vector<std::string> failed;
    std::vector<DeviceBlobList> lists{{{Blob{nullptr, 1}}, 0}};
    // No card here (the library's directory is empty): the rest works, and this says what is missing.
    const Status missing = client.Hetero()->MSetD2H({"k"}, lists);
    CHECK(missing.GetCode() == K_NOT_SUPPORTED && Has(missing, "libascendcl.so"));
    CHECK(client.Hetero()->AsyncMGetH2D({"k"}, lists, 1).get().failedList.size() == 1);
    Objects(*client.Object(), *client.KV());

    // Empty options: the environment says where.
    KVClient fromEnvironment;
    CHECK(fromEnvironment.Init().IsOk());
    std::string value;
    CHECK(fromEnvironment.Get("late", value).IsOk() && value == "here");
    CHECK(fromEnvironment.ShutDown().IsOk());
    CHECK(client.ShutDown().IsOk());
    CHECK(client.KV()->Get("late", value).GetCode() == K_NOT_READY);
    return 0;
}
