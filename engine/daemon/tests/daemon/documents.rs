//! The generated documents are those of the code.

use std::path::PathBuf;

fn check(name: &str, expected: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy")
        .join(name);
    if std::env::var_os("CHARIOT_BLESS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "deploy/{name} is stale: CHARIOT_BLESS=1 cargo test -p chariotd --test daemon"
    );
}

#[test]
fn configuration_page_is_in_step() {
    check(
        "CONFIGURATION.md",
        &chariotd::settings::document::configuration_page(),
    );
}

#[test]
fn metrics_page_is_in_step() {
    check("METRICS.md", &chariotd::metrics::metrics_page());
}

#[test]
fn pages_name_every_setting_and_metric() {
    let page = chariotd::settings::document::configuration_page();
    for setting in chariotd::settings::SETTINGS {
        assert!(
            page.contains(&format!("`--{}", setting.name)),
            "{}",
            setting.name
        );
    }
    let page = chariotd::metrics::metrics_page();
    for metric in chariotd::metrics::METRICS {
        assert!(
            page.contains(&format!("`{}`", metric.name)),
            "{}",
            metric.name
        );
    }
}
