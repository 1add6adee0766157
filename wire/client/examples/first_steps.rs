//! First steps: set, get, view and delete against a running `chariotd`.
//!
//! Run a daemon (`cargo run --release -p chariotd`), then
//! `cargo run --release -p chariot-client --example first_steps -- 127.0.0.1:31501`.

use chariot_client::{Client, ConnectOptions, GetOptions, SetOptions, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:31501".to_owned());
    let client = Client::connect(ConnectOptions::new(Target::Tcp(address)))?;
    let value = vec![7_u8; 1 << 20];

    let version = client.set(b"hello", b"world", &SetOptions::default())?;
    client.set(b"large", &value, &SetOptions::default())?;
    let small = client.get(b"hello", &GetOptions::default())?;
    assert_eq!(small.as_deref(), Some(&b"world"[..]));

    // A view lends the bytes where they lie, without a copy, until it is dropped.
    let view = client.view(b"large")?.ok_or("the value was evicted")?;
    assert_eq!(&view[..], &value[..]);
    drop(view);

    assert!(client.delete(b"hello")?);
    assert!(
        client.get(b"hello", &GetOptions::default())?.is_none(),
        "a miss is None, not an error"
    );
    let mut stdout = std::io::stdout();
    std::io::Write::write_fmt(
        &mut stdout,
        format_args!(
            "{:?}: version {version:?}, {} bytes viewed\n",
            client.place(),
            value.len()
        ),
    )?;
    Ok(())
}
