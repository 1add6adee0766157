//! Where a figure was taken: CPU, cores, kernel, commit. A figure without them is worth nothing.

use std::fs;

use serde::Serialize;

/// The machine and the build behind a report; part of every JSON line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Machine {
    /// CPU model and architecture.
    pub machine: String,
    /// CPUs that this process may use.
    pub cores: usize,
    /// Kernel name and release.
    pub kernel: String,
    /// Commit that this program was built from, "unknown" outside a repository.
    pub commit: &'static str,
}

impl Machine {
    /// Looks at this machine; what cannot be read is "unknown".
    pub(crate) fn here() -> Self {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            machine: format!("{} ({})", cpu_model(&cpus), std::env::consts::ARCH),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            kernel: format!("Linux {}", known(release.trim())),
            commit: env!("CHARIOT_BENCH_COMMIT"),
        }
    }

    /// The line under every report for people.
    pub(crate) fn line(&self) -> String {
        let Self {
            machine,
            cores,
            kernel,
            commit,
        } = self;
        format!("machine: {machine}, {cores} cores, {kernel}, commit {commit}")
    }
}

fn known(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

/// The model's name. The kernel of aarch64 gives numbers only: implementer and part.
fn cpu_model(cpuinfo: &str) -> String {
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
        line.split_once(':')
            .map(|(_, value)| value.trim())
            .filter(|value| !value.is_empty())
    };
    if let Some(model) = field("model name") {
        return model.to_owned();
    }
    match (field("CPU implementer"), field("CPU part")) {
        (Some(implementer), Some(part)) => format!("implementer {implementer} part {part}"),
        _ => "unknown CPU".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_model_of_both_architectures() {
        let x86 = "processor\t: 0\nmodel name\t: Some CPU 9\nmodel name\t: Other\n";
        assert_eq!(cpu_model(x86), "Some CPU 9");
        let arm = "processor\t: 0\nCPU implementer\t: 0x48\nCPU part\t: 0xd01\n";
        assert_eq!(cpu_model(arm), "implementer 0x48 part 0xd01");
        assert_eq!(cpu_model(""), "unknown CPU");
    }

    #[test]
    fn this_machine_is_described() {
        let here = Machine::here();
        assert!(here.cores >= 1);
        assert!(here.kernel.len() > "Linux ".len());
        assert!(!here.commit.is_empty());
        assert!(here.line().contains(here.commit));
    }
}
