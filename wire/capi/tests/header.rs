//! `include/chariot.h` is what `cbindgen` makes of `src/`, and `chariot.map` names every function.

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn generated() -> String {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let config = cbindgen::Config::from_file(here.join("cbindgen.toml")).unwrap();
        let mut builder = cbindgen::Builder::new().with_config(config);
        for file in [
            "status", "options", "client", "call", "batch", "view", "buffer", "object", "hetero",
            "cards", "future", "boundary",
        ] {
            builder = builder.with_src(here.join(format!("src/{file}.rs")));
        }
        let mut text = Vec::new();
        builder.generate().unwrap().write(&mut text);
        let text = String::from_utf8(text).unwrap();
        // Rust's own section on safety says in its words what the header's head says.
        let mut lines = Vec::new();
        let mut in_safety = false;
        for line in text.lines() {
            in_safety = (in_safety && line.starts_with("//")) || line == "// # Safety";
            if !in_safety {
                if line.is_empty() || line.starts_with("//") || lines.last() != Some(&"//") {
                    lines.push(line);
                } else {
                    lines.pop();
                    lines.push(line);
                }
            }
        }
        lines.join("\n") + "\n"
    }

    /// `CHARIOT_BLESS=1` writes the header anew.
    #[test]
    fn the_header_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/chariot.h");
        let generated = generated();
        if std::env::var_os("CHARIOT_BLESS").is_some() {
            std::fs::write(&path, &generated).unwrap();
        }
        let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            generated == checked_in,
            "include/chariot.h is not what src/ says: run CHARIOT_BLESS=1 cargo test -p \
             chariot-capi --test header, and look at the difference"
        );
    }

    #[test]
    fn every_function_has_a_version() {
        let map = include_str!("../chariot.map");
        let header = generated();
        let mut functions = 0;
        for line in header.lines().filter(|line| !line.starts_with("//")) {
            let Some((before, _)) = line.split_once('(') else {
                continue;
            };
            let name = before.rsplit([' ', '*']).next().unwrap_or_default();
            if name.starts_with("chariot_") {
                functions += 1;
                assert!(
                    map.contains(&format!(" {name};\n")),
                    "chariot.map lacks {name}"
                );
            }
        }
        assert_eq!(functions, map.matches(" chariot_").count(), "and no others");
    }
}
