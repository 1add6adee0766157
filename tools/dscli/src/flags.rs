//! Every flag of a worker that old configurations name, and what it means here.
//!
//! tidy: table. The first table is the configuration of chariot-ds 0.1.6
//! with its defaults, in its order: `generate_config` writes it. The second holds the names that
//! its successors added and those that only its binary knew. A flag is mapped to a setting of
//! `chariotd`, or has one value that means "nothing special" and is refused with any other, because
//! something would be promised that nobody keeps, or has no effect and is named once at the start.

/// What becomes of a flag's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It sets something; see `mapping.rs`.
    Setting(Target),
    /// Only the neutral value is kept; any other is refused.
    OnlyDefault {
        /// The value that asks for nothing.
        neutral: &'static str,
        /// Why another one cannot be kept.
        why: &'static str,
    },
    /// Accepted, and without effect: the engine has nothing of the kind, or does it by itself.
    None,
}

/// What a mapped flag sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The address for clients (`--listen`, and `--admin` 79 ports above).
    Listen,
    /// Another address to listen on.
    Bind,
    /// Where to register (`--etcd`).
    Etcd,
    /// The name of the cluster (`--cluster`).
    Cluster,
    /// A cluster of one, without etcd.
    Metastore,
    /// `--memory`.
    Memory,
    /// `--max-sessions`.
    Sessions,
    /// `--hugepages`.
    HugePages,
    /// Directory of the unix socket (`--socket`).
    SocketDir,
    /// A line of the credentials file (`--auth`).
    Key,
    /// Directory of the log file.
    LogDir,
    /// Name of the log file.
    LogName,
    /// `--log`.
    LogLevel,
    /// `--health-file`.
    Health,
    /// `--ready-file`.
    Ready,
    /// `--ssd` and `--ssd-size`.
    Spill,
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    /// Its name, without dashes.
    pub name: &'static str,
    /// Its default in 0.1.6; `None` for later names.
    pub default: Option<&'static str>,
    /// What becomes of it.
    pub effect: Effect,
}

const fn flag(name: &'static str, default: Option<&'static str>, effect: Effect) -> Flag {
    Flag {
        name,
        default,
        effect,
    }
}

/// Finds a flag by its name.
pub(crate) fn find(name: &str) -> Option<&'static Flag> {
    FLAGS_0_1_6
        .iter()
        .chain(FLAGS_LATER)
        .find(|flag| flag.name == name)
}

/// The configuration of chariot-ds 0.1.6: 83 flags with their defaults.
#[rustfmt::skip]
pub(crate) static FLAGS_0_1_6: &[Flag] = &[
    flag("worker_address", Some("127.0.0.1:31501"), Effect::Setting(Target::Listen)),
    flag("etcd_address", Some(""), Effect::Setting(Target::Etcd)),
    flag("shared_memory_size_mb", Some("1024"), Effect::Setting(Target::Memory)),
    flag("heartbeat_interval_ms", Some("1000"), Effect::None),
    flag("ipc_through_shared_memory", Some("true"), Effect::None),
    flag("unix_domain_socket_dir", Some("./chariotds/uds"), Effect::Setting(Target::SocketDir)),
    flag("az_name", Some(""), Effect::Setting(Target::Cluster)),
    flag("other_az_names", Some(""), Effect::None),
    flag("oc_worker_worker_direct_port", Some("0"), Effect::None),
    flag("oc_worker_worker_pool_size", Some("3"), Effect::None),
    flag("payload_nocopy_threshold", Some("104857600"), Effect::None),
    flag("oc_thread_num", Some("32"), Effect::None),
    flag("eviction_thread_num", Some("1"), Effect::None),
    flag("client_reconnect_wait_s", Some("5"), Effect::None),
    flag("etcd_meta_pool_size", Some("8"), Effect::None),
    flag("spill_directory", Some(""), Effect::Setting(Target::Spill)),
    flag("spill_size_limit", Some("0"), Effect::Setting(Target::Spill)),
    flag("spill_thread_num", Some("8"), Effect::None),
    flag("spill_file_max_size_mb", Some("200"), Effect::None),
    flag("spill_file_open_limit", Some("512"), Effect::None),
    flag("spill_enable_readahead", Some("true"), Effect::None),
    flag("log_monitor", Some("true"), Effect::None),
    flag("log_monitor_exporter", Some("harddisk"), Effect::None),
    flag("log_monitor_interval_ms", Some("10000"), Effect::None),
    flag("minloglevel", Some("0"), Effect::Setting(Target::LogLevel)),
    flag("system_access_key", Some(""), Effect::Setting(Target::Key)),
    flag("system_secret_key", Some(""), Effect::Setting(Target::Key)),
    flag("tenant_access_key", Some(""), Effect::Setting(Target::Key)),
    flag("tenant_secret_key", Some(""), Effect::Setting(Target::Key)),
    flag("request_expire_time_s", Some("300"), Effect::None),
    flag("max_client_num", Some("200"), Effect::Setting(Target::Sessions)),
    flag("l2_cache_type", Some("none"), Effect::OnlyDefault { neutral: "none", why: "persistence in an object store comes later" }),
    flag("rocksdb_store_dir", Some("./chariotds/rocksdb"), Effect::None),
    flag("rocksdb_max_open_file", Some("128"), Effect::None),
    flag("rocksdb_background_threads", Some("16"), Effect::None),
    flag("node_timeout_s", Some("60"), Effect::None),
    flag("node_dead_timeout_s", Some("300"), Effect::None),
    flag("arena_per_tenant", Some("16"), Effect::None),
    flag("memory_reclamation_time_second", Some("600"), Effect::None),
    flag("add_node_wait_time_s", Some("60"), Effect::None),
    flag("auto_del_dead_node", Some("true"), Effect::None),
    flag("enable_hash_ring_self_healing", Some("false"), Effect::None),
    flag("client_dead_timeout_s", Some("120"), Effect::None),
    flag("monitor_config_file", Some("./chariotds/config/chariotds.config"), Effect::None),
    flag("loglevel_only_for_workers", Some(""), Effect::None),
    flag("enable_thp", Some("false"), Effect::None),
    flag("cross_az_get_data_from_worker", Some("true"), Effect::None),
    flag("cross_az_get_meta_from_worker", Some("false"), Effect::None),
    flag("enable_reconciliation", Some("true"), Effect::None),
    flag("check_async_queue_empty_time_s", Some("1"), Effect::None),
    flag("obs_access_key", Some(""), Effect::None),
    flag("obs_secret_key", Some(""), Effect::None),
    flag("obs_endpoint", Some(""), Effect::None),
    flag("obs_bucket", Some(""), Effect::None),
    flag("obs_https_enabled", Some("false"), Effect::None),
    flag("sfs_path", Some(""), Effect::None),
    flag("health_check_path", Some("./chariotds/probe/healthy"), Effect::Setting(Target::Health)),
    flag("ready_check_path", Some("./chariotds/probe/ready"), Effect::Setting(Target::Ready)),
    flag("rpc_thread_num", Some("16"), Effect::None),
    flag("log_dir", Some("./chariotds/logs"), Effect::Setting(Target::LogDir)),
    flag("log_filename", Some(""), Effect::Setting(Target::LogName)),
    flag("log_async_buffer_mb", Some("32"), Effect::None),
    flag("max_log_size", Some("400"), Effect::None),
    flag("max_log_file_num", Some("5"), Effect::None),
    flag("log_retention_day", Some("0"), Effect::None),
    flag("log_async", Some("true"), Effect::None),
    flag("log_compress", Some("true"), Effect::None),
    flag("v", Some("0"), Effect::Setting(Target::LogLevel)),
    flag("enable_curve_zmq", Some("false"), Effect::OnlyDefault { neutral: "false", why: "connections are not encrypted" }),
    flag("zmq_server_io_context", Some("5"), Effect::None),
    flag("zmq_client_io_context", Some("5"), Effect::None),
    flag("zmq_chunk_sz", Some("1048576"), Effect::None),
    flag("curve_key_dir", Some(""), Effect::None),
    flag("enable_etcd_auth", Some("false"), Effect::OnlyDefault { neutral: "false", why: "etcd is spoken to without TLS" }),
    flag("etcd_target_name_override", Some(""), Effect::None),
    flag("etcd_ca", Some(""), Effect::None),
    flag("etcd_cert", Some(""), Effect::None),
    flag("etcd_key", Some(""), Effect::None),
    flag("etcd_passphrase_path", Some(""), Effect::None),
    flag("max_rpc_session_num", Some("2048"), Effect::None),
    flag("enable_huge_tlb", Some("false"), Effect::Setting(Target::HugePages)),
    flag("enable_fallocate", Some("true"), Effect::None),
    flag("enable_lossless_data_exit_mode", Some("false"), Effect::None),
];

/// Names of later releases, and of the binary of 0.1.6 alone.
#[rustfmt::skip]
pub(crate) static FLAGS_LATER: &[Flag] = &[
    flag("access_sample_rate", None, Effect::None),
    flag("alsologtostderr", None, Effect::None),
    flag("async_delete", None, Effect::None),
    flag("authorization_enable", None, Effect::None),
    flag("backend_store_dir", None, Effect::None),
    flag("batch_get_threshold_mb", None, Effect::None),
    flag("bind_address", None, Effect::Setting(Target::Bind)),
    flag("brpc_connection_type", None, Effect::None),
    flag("brpc_drop_expired_request", None, Effect::None),
    flag("brpc_enable_builtin_services", None, Effect::None),
    flag("brpc_enable_circuit_breaker", None, Effect::None),
    flag("brpc_event_dispatcher_num", None, Effect::None),
    flag("brpc_max_concurrency", None, Effect::None),
    flag("brpc_max_connection_pool_size", None, Effect::None),
    flag("brpc_server_num_threads", None, Effect::None),
    flag("cache_rpc_session", None, Effect::None),
    flag("cluster_name", None, Effect::Setting(Target::Cluster)),
    flag("coordinator_address", None, Effect::OnlyDefault { neutral: "", why: "there is no coordinator: give etcd_address" }),
    flag("coordinator_discovery_retry_interval_ms", None, Effect::None),
    flag("coordinator_member_failure_grace_ms", None, Effect::None),
    flag("coordinator_raft_data_dir", None, Effect::None),
    flag("coordinator_raft_election_timeout_ms", None, Effect::None),
    flag("coordinator_raft_heartbeat_interval_ms", None, Effect::None),
    flag("coordinator_raft_initial_peers", None, Effect::None),
    flag("coordinator_rpc_stub_cache_size", None, Effect::None),
    flag("coordinator_topology_max_active_clusters", None, Effect::None),
    flag("cross_cluster_get_data_from_worker", None, Effect::None),
    flag("cross_cluster_get_meta_from_worker", None, Effect::None),
    flag("data_migrate_rate_limit_mb", None, Effect::None),
    flag("data_migrate_urma_transport_mode", None, Effect::None),
    flag("diagnostic_sample_rate", None, Effect::None),
    flag("distributed_disk_compact_interval_s", None, Effect::None),
    flag("distributed_disk_max_data_file_size_mb", None, Effect::None),
    flag("distributed_disk_path", None, Effect::None),
    flag("distributed_disk_sync_batch_bytes", None, Effect::None),
    flag("distributed_disk_sync_interval_ms", None, Effect::None),
    flag("enable_cloud_service_token_rotation", None, Effect::None),
    flag("enable_component_auth", None, Effect::OnlyDefault { neutral: "false", why: "connections are not encrypted" }),
    flag("enable_data_replication", None, Effect::None),
    flag("enable_distributed_master", None, Effect::None),
    flag("enable_l2_cache_fallback", None, Effect::None),
    flag("enable_leaving_intercept", None, Effect::None),
    flag("enable_memory_rebalance", None, Effect::None),
    flag("enable_meta_replica", None, Effect::None),
    flag("enable_metadata_recovery", None, Effect::None),
    flag("enable_multi_stubs", None, Effect::None),
    flag("enable_p2p_transfer", None, Effect::None),
    flag("enable_perf_trace_log", None, Effect::None),
    flag("enable_pipeline_h2d", None, Effect::None),
    flag("enable_rdma", None, Effect::None),
    flag("enable_redirect", None, Effect::None),
    flag("enable_remote_h2d", None, Effect::None),
    flag("enable_sched_runtime", None, Effect::None),
    flag("enable_stream_data_verification", None, Effect::None),
    flag("enable_transport_fallback", None, Effect::None),
    flag("enable_ub_numa_affinity", None, Effect::None),
    flag("enable_urma", None, Effect::None),
    flag("enable_worker_worker_batch_get", None, Effect::None),
    flag("encrypt_kit", None, Effect::OnlyDefault { neutral: "plaintext", why: "nothing decrypts configuration values" }),
    flag("etcd_password", None, Effect::OnlyDefault { neutral: "", why: "etcd is spoken to without a user" }),
    flag("etcd_table_prefix", None, Effect::Setting(Target::Cluster)),
    flag("etcd_token_refresh_interval_s", None, Effect::None),
    flag("etcd_username", None, Effect::OnlyDefault { neutral: "", why: "etcd is spoken to without a user" }),
    flag("eviction_high_watermark_ratio", None, Effect::None),
    flag("eviction_low_watermark_ratio", None, Effect::None),
    flag("eviction_reserve_mem_threshold_mb", None, Effect::None),
    flag("fd_pool_prewarm_size", None, Effect::None),
    flag("get_cluster_topology", None, Effect::None),
    flag("hash_ring_tokens_per_member", None, Effect::None),
    flag("hixl_cs_enable", None, Effect::None),
    flag("host_id_env_name", None, Effect::None),
    flag("iam_kit", None, Effect::OnlyDefault { neutral: "none", why: "no identity service is asked" }),
    flag("io_thread_nice", None, Effect::None),
    flag("json_log_monitor", None, Effect::None),
    flag("kv_events_config", None, Effect::None),
    flag("l2_cache_async_write_queue_size", None, Effect::None),
    flag("l2_cache_async_write_rate_limit_mb", None, Effect::None),
    flag("l2_cache_delete_thread_num", None, Effect::None),
    flag("liveness_check_path", None, Effect::None),
    flag("liveness_probe_timeout_s", None, Effect::None),
    flag("log_async_queue_size", None, Effect::None),
    flag("log_only_write_info_file", None, Effect::None),
    flag("logbufsecs", None, Effect::None),
    flag("logfile_mode", None, Effect::None),
    flag("logtostderr", None, Effect::None),
    flag("master_address", None, Effect::None),
    flag("master_sc_thread_num", None, Effect::None),
    flag("memory_alignment", None, Effect::None),
    flag("metastore_address", None, Effect::Setting(Target::Metastore)),
    flag("object_del_retry_delay_sec", None, Effect::None),
    flag("oc_io_from_l2cache_need_metadata", None, Effect::None),
    flag("oc_metadata_header", None, Effect::None),
    flag("oc_shm_threshold_percentage", None, Effect::None),
    flag("oc_shm_transfer_threshold_kb", None, Effect::None),
    flag("oc_worker_aggregate_merge_size", None, Effect::None),
    flag("oc_worker_aggregate_single_max", None, Effect::None),
    flag("oc_worker_worker_parallel_min", None, Effect::None),
    flag("oc_worker_worker_parallel_nums", None, Effect::None),
    flag("other_cluster_names", None, Effect::None),
    flag("page_size", None, Effect::None),
    flag("pipeline_h2d_thread_num", None, Effect::None),
    flag("rdma_register_whole_arena", None, Effect::None),
    flag("rebalance_source_usage_percent", None, Effect::None),
    flag("rebalance_task_report_grace_ms", None, Effect::None),
    flag("rebalance_usage_gap_percent", None, Effect::None),
    flag("remote_h2d_device_ids", None, Effect::None),
    flag("remote_h2d_hccs_buffer_pool", None, Effect::None),
    flag("remote_h2d_link_type", None, Effect::None),
    flag("remote_send_thread_num", None, Effect::None),
    flag("request_sample_rate", None, Effect::None),
    flag("rocksdb_sync_write", None, Effect::None),
    flag("rocksdb_write_mode", None, Effect::None),
    flag("sc_cache_pages", None, Effect::None),
    flag("sc_encrypt_secret_key", None, Effect::None),
    flag("sc_gc_interval_ms", None, Effect::None),
    flag("sc_local_cache_memory_size_mb", None, Effect::None),
    flag("sc_metrics_log_interval_s", None, Effect::None),
    flag("sc_regular_socket_num", None, Effect::None),
    flag("sc_scan_interval_ms", None, Effect::None),
    flag("sc_scan_num_buckets", None, Effect::None),
    flag("sc_scan_thread_num", None, Effect::None),
    flag("sc_shared_page_group_count", None, Effect::None),
    flag("sc_shared_page_size_mb", None, Effect::None),
    flag("sc_shm_threshold_percentage", None, Effect::None),
    flag("sc_stream_socket_num", None, Effect::None),
    flag("sc_thread_num", None, Effect::None),
    flag("sc_worker_worker_direct_port", None, Effect::None),
    flag("sc_worker_worker_pool_size", None, Effect::None),
    flag("scale_in_collect_window_ms", None, Effect::None),
    flag("set_cluster_topology", None, Effect::None),
    flag("shared_disk_arena_per_tenant", None, Effect::None),
    flag("shared_disk_directory", None, Effect::OnlyDefault { neutral: "", why: "shared disks are not used: give spill_directory" }),
    flag("shared_disk_size_mb", None, Effect::None),
    flag("shared_memory_distribution_policy", None, Effect::None),
    flag("shared_memory_populate", None, Effect::None),
    flag("shared_memory_worker_port", None, Effect::None),
    flag("skip_authenticate", None, Effect::None),
    flag("slow_log_process_slower_than", None, Effect::None),
    flag("slow_log_rpc_slower_than", None, Effect::None),
    flag("spill_high_watermark_ratio", None, Effect::None),
    flag("spill_low_watermark_ratio", None, Effect::None),
    flag("spill_to_remote_worker", None, Effect::None),
    flag("start_metastore_service", None, Effect::Setting(Target::Metastore)),
    flag("stderrthreshold", None, Effect::None),
    flag("stream_idle_time_s", None, Effect::None),
    flag("system_data_key", None, Effect::None),
    flag("ub_numa_rr_type", None, Effect::None),
    flag("urma_connection_size", None, Effect::None),
    flag("urma_event_mode", None, Effect::None),
    flag("urma_failover_min_sample_count", None, Effect::None),
    flag("urma_failover_success_rate_ratio", None, Effect::None),
    flag("urma_max_write_size_mb", None, Effect::None),
    flag("urma_poll_size", None, Effect::None),
    flag("urma_register_whole_arena", None, Effect::None),
    flag("use_brpc", None, Effect::None),
    flag("watch_event_dispatch_thread", None, Effect::None),
    flag("yuanrong_iam_ca", None, Effect::None),
    flag("yuanrong_iam_cert", None, Effect::None),
    flag("yuanrong_iam_key", None, Effect::None),
    flag("yuanrong_iam_passphrase", None, Effect::None),
    flag("yuanrong_iam_url", None, Effect::None),
    flag("zmq_client_io_thread", None, Effect::None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_once() {
        let mut names: Vec<&str> = FLAGS_0_1_6
            .iter()
            .chain(FLAGS_LATER)
            .map(|flag| flag.name)
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(
            FLAGS_0_1_6.len(),
            83,
            "as many as the configuration of 0.1.6 has"
        );
    }

    /// Counted once from the configurations of all releases, so that none is lost unseen.
    #[test]
    fn no_flag_is_lost() {
        assert_eq!(FLAGS_LATER.len(), 162);
        let is_sorted = FLAGS_LATER.is_sorted_by_key(|flag| flag.name);
        let unsorted: Vec<_> = FLAGS_LATER
            .windows(2)
            .filter(|pair| pair[0].name > pair[1].name)
            .map(|pair| pair[1].name)
            .collect();
        assert!(is_sorted, "{unsorted:?}");
    }

    #[test]
    fn neutral_values_are_the_defaults() {
        for flag in FLAGS_0_1_6 {
            if let Effect::OnlyDefault { neutral, .. } = flag.effect {
                assert_eq!(flag.default, Some(neutral), "{}", flag.name);
            }
        }
    }
}
