// A complete program in C++17: writes a value in place, reads it in place, deletes it.
// Build: c++ -std=c++17 hello.cpp $(pkg-config --cflags --libs chariot) -o hello
// Run:   ./hello 127.0.0.1:31501
#include <cstring>
#include <iostream>

#include <chariot.hpp>

static int Fail(const chariot::Status &status)
{
    std::cerr << status.name() << ": " << status.message() << '\n';
    return 1;
}

int main(int argc, char **argv)
{
    chariot::Client client;
    chariot::Status status = chariot::Client::Connect(argc > 1 ? argv[1] : "127.0.0.1:31501", client);
    if (!status) {
        return Fail(status);
    }
    chariot::Buffer buffer;
    if (!(status = client.Create("hello", 8, buffer))) {
        return Fail(status);
    }
    std::memcpy(buffer.data(), "from C++", buffer.size());
    if (!(status = buffer.Publish())) {
        return Fail(status);
    }
    chariot::View view;
    if (!(status = client.Get("hello", view))) {
        return Fail(status);
    }
    std::cout << view.bytes() << '\n';
    if (!(status = client.Delete("hello"))) {
        return Fail(status);
    }
    std::cout << client.Exist("hello").name() << '\n';
    return 0;
}
