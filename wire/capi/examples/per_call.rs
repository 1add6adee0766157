//! The same calls as `per_call.c`; `per_call.sh` compares their instructions.

use chariot_client::{Client, ConnectOptions, Error, SetOptions, Target};

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, target, operation, calls] = &arguments[..] else {
        panic!("per_call HOST:PORT exist|get|view CALLS");
    };
    let calls: u64 = calls.parse().expect("the third argument is a number");
    let mut value = [0; 4096];
    let client = Client::connect(ConnectOptions::new(Target::Tcp(target.clone())))?;
    client.set(b"per-call", &value, &SetOptions::default())?;
    let operation = operation.as_bytes().first();
    for _ in 0..calls {
        match operation {
            Some(b'e') => assert!(client.exist(b"per-call")?),
            Some(b'g') => assert!(client.get_into(b"per-call", &mut value)?.is_some()),
            _ => assert!(client.view(b"per-call")?.is_some()),
        }
    }
    Ok(())
}
