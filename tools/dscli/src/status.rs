//! `status`: whether nodes run and are ready, and who belongs to a cluster.

use std::path::Path;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, GetOptions};
use serde_json::Value;

use crate::arguments::StatusOrder;
use crate::error::CliError;
use crate::{mapping, nodes, say, say_info};

/// Longest wait for etcd.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The cluster that a node registers in unless it is told another one.
const CLUSTER: &str = "chariot";

/// Where the members of a cluster are kept in etcd; the daemon writes there.
fn members_prefix(cluster: &str) -> String {
    format!("/chariot/v1/{cluster}/nodes/")
}

/// Prints what was asked for; the nodes of this host when nothing was.
///
/// # Errors
/// The node asked for does not run, or etcd does not answer.
pub(crate) fn run(order: &StatusOrder) -> Result<(), CliError> {
    if let Some(address) = &order.address {
        let node = nodes::find(address).ok_or_else(|| CliError::NoNode(address.clone()))?;
        say_info(&line_of(&node));
    }
    if let Some(etcd) = &order.etcd {
        let cluster = order.cluster.as_deref().unwrap_or(CLUSTER);
        let members = members(&mapping::endpoints(etcd), cluster)?;
        say_info(&format!("{} members in cluster {cluster}", members.len()));
        for member in members {
            say(&member_line(&member));
        }
    }
    if order.address.is_none() && order.etcd.is_none() {
        let nodes = nodes::all();
        say_info(&format!("{} nodes on this host", nodes.len()));
        for node in &nodes {
            say(&line_of(node));
        }
    }
    Ok(())
}

fn line_of(node: &nodes::Node) -> String {
    let address = node.address();
    // Without a ready file nobody has asked to be told.
    let ready = match node.option("--ready-file") {
        Some(path) if Path::new(path).exists() => "ready",
        Some(_) => "not ready",
        None => "running",
    };
    format!("Worker service @ {address} is {ready}, PID: {}", node.pid)
}

fn members(endpoints: &[String], cluster: &str) -> Result<Vec<Value>, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::kernel("start a reactor"))?;
    let records = runtime.block_on(async {
        let options = ConnectOptions::new()
            .with_connect_timeout(ANSWER_WITHIN)
            .with_timeout(ANSWER_WITHIN);
        let mut client = Client::connect(endpoints, Some(options)).await?;
        let all = GetOptions::new().with_prefix();
        client.get(members_prefix(cluster), Some(all)).await
    })?;
    // A record of a newer daemon that this one cannot read is still a member.
    let read = |kv: &etcd_client::KeyValue| {
        let text = String::from_utf8_lossy(kv.value()).into_owned();
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    };
    Ok(records.kvs().iter().map(read).collect())
}

fn member_line(member: &Value) -> String {
    let text = |name: &str| member[name].as_str().unwrap_or("?").to_owned();
    let cores = member["cores"].as_array().map_or(0, Vec::len);
    let memory_mib = member["memory_bytes"].as_u64().unwrap_or(0) >> 20;
    format!(
        "{}  version {}  cores {cores}  memory {memory_mib} MiB  admin {}",
        text("address"),
        text("version"),
        text("admin")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_looked_for_where_the_daemon_writes_them() {
        for cluster in [CLUSTER, "az1"] {
            assert_eq!(
                members_prefix(cluster),
                chariotd::membership::members_prefix(cluster)
            );
        }
        let default = chariotd::settings::find("cluster").unwrap().default;
        assert_eq!(default, CLUSTER);
    }

    #[test]
    fn record_of_the_daemon_is_read_in_full() {
        let member = chariotd::membership::Member {
            address: "127.0.0.1:31501".to_owned(),
            admin: "127.0.0.1:31580".to_owned(),
            version: "1.2.3".to_owned(),
            cores: vec![0, 1],
            memory_bytes: 1 << 30,
            start_unix_ms: 1,
            place: String::new(),
        };
        let line = member_line(&serde_json::to_value(member).unwrap());
        let expected =
            "127.0.0.1:31501  version 1.2.3  cores 2  memory 1024 MiB  admin 127.0.0.1:31580";
        assert_eq!(line, expected);
    }
}
