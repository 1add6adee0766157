//! `cargo run -p chariot-tidy` mends what can be mended by itself: comments that are too wide. All
//! other checks are tests, which say what to do.
#![forbid(unsafe_code)]

use std::path::Path;

use chariot_tidy::Tree;
use chariot_tidy::wrap::wrap_comments;

fn main() -> std::io::Result<()> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for file in Tree::repository().with_suffix(".rs") {
        let wrapped = wrap_comments(&file.text);
        if wrapped != file.text {
            std::fs::write(top.join(&file.path), wrapped)?;
        }
    }
    Ok(())
}
