// A program of the first release that copies device memory: its headers, its names. Memory of this
// process stands in for a card's (CHARIOT_DEVICE_BACKEND=host).
#include <cstring>
#include <future>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "datasystem/datasystem.h"
#include "datasystem/hetero_cache/future.h"
#include "datasystem/hetero_cache/hetero_client.h"

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

// Objects of two blobs each, on one card.
struct Objects {
    std::vector<std::vector<std::string>> bytes;
    std::vector<DeviceBlobList> lists;

    Objects(size_t count, char seed, int32_t card = 0)
    {
        for (size_t at = 0; at < count; ++at) {
            const char letter = seed == 0 ? '\0' : static_cast<char>(seed + at);
            bytes.push_back({std::string(70001, letter), std::string(3, letter)});
        }
        for (std::vector<std::string> &object : bytes) {
            DeviceBlobList list;
            list.deviceIdx = card;
            for (std::string &blob : object) {
                list.blobs.push_back(Blob{blob.data(), blob.size()});
            }
            lists.push_back(list);
        }
    }

    bool Hold(size_t at, char letter) const
    {
        return bytes[at][0] == std::string(70001, letter) && bytes[at][1] == std::string(3, letter);
    }
};

static void Copies(HeteroClient &client)
{
    const std::vector<std::string> keys{"h/1", "h/2"};
    std::vector<std::string> failed, written;
    CHECK(client.MSetD2H(keys, Objects(2, 'a').lists).IsOk());
    // What is there stays, and is no failure; the new one is told apart.
    Objects more(2, 'x');
    CHECK(client.MSetD2H({"h/1", "h/3"}, more.lists, SetParam{}, &written).IsOk());
    CHECK(written == std::vector<std::string>{"h/3"});
    Objects back(4, 0);
    CHECK(client.MGetH2D({"h/1", "h/none", "h/2", "h/3"}, back.lists, failed, 0).IsOk());
    CHECK(failed == std::vector<std::string>{"h/none"});
    CHECK(back.Hold(0, 'a') && back.Hold(2, 'b') && back.Hold(3, 'y'));
    Objects one(1, 0);
    CHECK(Has(client.MGetH2D({"h/none"}, one.lists, failed, 0), "code: [Key not found]"));
    CHECK(failed.size() == 1);

    std::vector<bool> exists;
    CHECK(client.Exist({"h/1", "h/none"}, exists).IsOk() && exists[0] && !exists[1]);
    std::vector<MetaInfo> metas;
    CHECK(client.GetMetaInfo({"h/1", "h/none"}, false, metas, failed).IsOk());
    CHECK(failed == std::vector<std::string>{"h/none"} && metas.size() == 2);
    CHECK((metas[0].blobSizeList == std::vector<uint64_t>{70001, 3}));

    std::shared_future<AsyncResult> later = client.AsyncMSetD2H({"h/4", "h/1"}, more.lists);
    CHECK(later.get().status.IsOk() && later.get().failedList.empty());
    later = client.AsyncMGetH2D({"h/4", "h/none"}, back.lists, 0);
    CHECK(later.get().failedList.empty() == false);
    // Four lists for two keys: nothing was begun, so every key failed.
    CHECK(later.get().failedList.size() == 2 && later.get().status.GetCode() == K_INVALID);
    Objects two(2, 0);
    later = client.AsyncMGetH2D({"h/4", "h/none"}, two.lists, 0);
    CHECK(later.get().status.IsOk() && later.get().failedList.size() == 1);
    CHECK(two.Hold(0, 'x'));

    CHECK(client.Delete(keys, failed).IsOk() && failed.empty());
    CHECK(client.Exist(keys, exists).IsOk() && !exists[0] && !exists[1]);
}

static void Refusals(HeteroClient &client)
{
    std::vector<std::string> failed;
    Objects good(1, 'g');
    CHECK(Has(client.MSetD2H({}, {}), "Got empty parameters : keys nums 0, blobList nums 0."));
    CHECK(Has(client.MSetD2H({"k", "l"}, good.lists),
              "The size of objectKeys and devBlobList does not match"));
    CHECK(Has(client.MSetD2H({"a b"}, good.lists), "contains illegal char(s)"));
    CHECK(Has(client.MGetH2D({"k"}, good.lists, failed, -1), "is out of range"));
    std::vector<DeviceBlobList> bad = good.lists;
    bad[0].blobs[0].size = 0;
    CHECK(Has(client.MSetD2H({"k"}, bad), "illegal size in devBlobList"));
    bad = good.lists;
    bad[0].blobs[0].pointer = nullptr;
    CHECK(client.MSetD2H({"k"}, bad).GetCode() == K_INVALID);
    bad = good.lists;
    bad[0].blobs.clear();
    CHECK(Has(client.MSetD2H({"k"}, bad), "illegal size in devBlobList"));
    bad = good.lists;
    for (const int32_t card : {-1, -2, -3}) {
        bad[0].deviceIdx = card;
        CHECK(Has(client.MSetD2H({"k"}, bad), "Please set deviceIdx"));
    }
    bad = good.lists;
    bad[0].srcOffset = 4;
    CHECK(client.MSetD2H({"k"}, bad).GetCode() == K_NOT_SUPPORTED);
    Objects other(1, 'o', 1);
    bad = {good.lists[0], other.lists[0]};
    CHECK(Has(client.MSetD2H({"k", "l"}, bad), "not the same as the deviceIdx"));
    SetParam through;
    through.writeMode = WriteMode::WRITE_THROUGH_L2_CACHE;
    CHECK(client.MSetD2H({"k"}, good.lists, through).GetCode() == K_INVALID);
    CHECK(Has(client.PreRegisterDeviceMemory({}, {}), "PreRegisterDeviceMemory"));
    CHECK(Future().Get(1).GetCode() == K_NOT_READY);
}

static void Cards(HeteroClient &one, HeteroClient &other)
{
    std::vector<std::string> failed;
    Objects kept(1, 'k', 0), moved(2, 'm', 0), back(1, 0, 1), into(2, 0, 1);
    CHECK(one.DevMSet({"kept"}, kept.lists, failed).IsOk() && failed.empty());
    CHECK(other.DevMGet({"kept"}, back.lists, failed).IsOk() && failed.empty());
    CHECK(back.Hold(0, 'k'));
    std::vector<MetaInfo> metas;
    CHECK(one.GetMetaInfo({"kept"}, true, metas, failed).IsOk());
    CHECK((metas[0].blobSizeList == std::vector<uint64_t>{70001, 3}));
    std::vector<Future> sent, received;
    CHECK(one.DevPublish({"m/1", "m/2"}, moved.lists, sent).IsOk() && sent.size() == 2);
    CHECK(sent[0].Get(1).GetCode() == K_FUTURE_TIMEOUT);
    CHECK(other.DevSubscribe({"m/1", "m/2"}, into.lists, received).IsOk());
    for (Future &future : received) {
        CHECK(future.Get().IsOk());
    }
    for (Future &future : sent) {
        CHECK(future.Get().IsOk());
    }
    CHECK(into.Hold(0, 'm') && into.Hold(1, 'n'));
    CHECK(other.DevLocalDelete({"kept"}, failed).IsOk() && failed.empty());
    CHECK(one.DevDelete({"kept"}, failed).IsOk() && failed.empty());
    CHECK(other.DevMGet({"kept"}, back.lists, failed, 10).GetCode() == K_NOT_FOUND);
    CHECK(one.AsyncDevDelete({"never"}).get().failedList.empty());
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    ConnectOptions options;
    options.host = argv[1];
    options.port = std::atoi(argv[2]);
    HeteroClient late(options);
    Objects object(1, 'a');
    CHECK(late.MSetD2H({"k"}, object.lists).GetCode() == K_NOT_READY);
    DsClient client(options);
    CHECK(client.Init().IsOk() && late.Init().IsOk());
    Copies(*client.Hetero());
    Refusals(*client.Hetero());
    Cards(*client.Hetero(), late);
    CHECK(late.ShutDown().IsOk() && client.ShutDown().IsOk());
    CHECK(late.MSetD2H({"k"}, object.lists).GetCode() == K_NOT_READY);
    return 0;
}
