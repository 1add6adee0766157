//! Black-box tests of one node through the SDK.
