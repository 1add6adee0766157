//! tidy: table of rules. The rules of the device facts, 5.2, and the tests that plant bugs for each.

/// Number, what the rule simulates, and its tests (`module::name`). Unit tests of the crate add to
/// 1 (delays from the seed), 10 (cycles), 13 (the presets' arithmetic) and 14 (orders).
const RULES: &[(u8, &str, &[&str])] = &[
    (
        1,
        "streams run in order, some time later",
        &[
            "streams::a_source_reused_before_the_wait_is_seen_on_the_card",
            "streams::a_result_read_before_the_wait_is_old",
            "streams::tasks_of_a_stream_run_in_order",
            "streams::an_event_orders_two_streams",
            "streams::a_function_on_the_host_runs_in_its_turn",
            "streams::who_waits_across_an_abort_is_told",
        ],
    ),
    (
        2,
        "device addresses fault on the host and tell their card",
        &[
            "memory::the_host_cannot_touch_device_memory",
            "memory::memory_of_another_card_is_told_by_its_address",
            "memory::attributes_tell_what_the_runtime_knows",
        ],
    ),
    (
        3,
        "poison, quarantine, tasks that touch what is not theirs",
        &[
            "memory::fresh_memory_is_poisoned",
            "memory::a_copy_to_freed_memory_fails_as_a_task",
            "memory::a_copy_beyond_a_block_fails",
            "peers::what_the_exporter_frees_is_poison_to_the_importer",
        ],
    ),
    (
        4,
        "page-locked and pageable host memory, modern and legacy",
        &[
            "memory::pageable_memory_makes_a_modern_driver_wait",
            "memory::pageable_memory_is_not_noticed_by_an_old_driver",
            "memory::registered_memory_is_pinned_until_it_is_not",
            "memory::a_driver_may_record_a_registration_without_effect",
            "memory::a_driver_may_refuse_registration",
            "memory::read_only_pages_are_taken_where_the_driver_can",
            "memory::read_only_pages_are_refused_where_it_cannot",
        ],
    ),
    (
        5,
        "arguments of copies and batches",
        &[
            "copies::wrong_lengths_are_refused",
            "copies::host_to_host_is_not_for_streams",
            "copies::a_wrong_direction_is_refused_under_strict",
            "copies::a_wrong_direction_is_corrected_and_counted",
            "copies::rows_are_copied_with_their_pitch",
            "copies::a_batch_is_validated_entry_by_entry",
            "copies::a_batch_tells_its_failure_and_has_enough_attributes",
            "copies::a_batch_has_a_longest_length",
            "memory::the_pointer_of_a_registration_is_for_kernels_alone",
        ],
    ),
    (
        6,
        "a card for each thread; resets and the end invalidate handles",
        &[
            "devices::nothing_works_before_initialisation",
            "devices::each_thread_chooses_its_card",
            "devices::a_stream_belongs_to_its_context",
            "devices::a_forced_reset_ends_handles",
            "devices::finalising_ends_handles_and_memory",
            "devices::a_reset_waits_for_the_last_user",
            "devices::peers_need_a_permit",
            "devices::the_last_error_is_told_once_and_to_its_thread",
        ],
    ),
    (
        7,
        "limits",
        &[
            "memory::a_full_card_says_so_and_huge_pages_waste",
            "memory::pinned_memory_has_a_limit",
            "devices::streams_and_events_have_limits",
        ],
    ),
    (
        8,
        "numbers that mean the reverse of each other",
        &[
            "streams::the_two_event_queries_mean_the_reverse",
            "streams::kinds_of_events_keep_to_their_calls",
        ],
    ),
    (
        9,
        "communicators meet by the whole root info, one a card at a time",
        &[
            "comms::a_root_info_is_no_string",
            "comms::ranks_are_taken_once_and_agree",
            "comms::a_card_makes_one_communicator_at_a_time",
            "comms::a_root_serves_one_communicator",
        ],
    ),
    (
        10,
        "sends and receives pair in order; who waits for itself is told",
        &[
            "comms::sends_and_receives_pair_in_order",
            "comms::sends_that_cross_are_a_deadlock_and_told",
            "comms::a_circle_through_an_event_is_a_deadlock_and_told",
            "comms::a_batch_of_both_directions_does_not_cross",
            "comms::a_group_makes_one_step_of_both_directions",
            "comms::sizes_that_differ_fail_on_both_ends",
            "comms::types_that_differ_fail_on_both_ends",
            "comms::buffers_of_another_card_and_ranks_that_are_none_are_refused",
            "comms::a_pair_that_nobody_completes_ends_by_abort",
            "comms::an_operation_has_a_longest_wait",
        ],
    ),
    (
        11,
        "a communicator is warmed up, and costs memory",
        &[
            "comms::a_new_communicator_is_warmed_up_under_strict",
            "comms::a_communicator_costs_device_memory",
        ],
    ),
    (
        12,
        "memory of other processes, dead ones too",
        &[
            "peers::a_key_gives_the_bytes_to_another_process",
            "peers::a_key_is_for_the_named_processes",
            "peers::memory_of_a_killed_process_is_known_as_such",
            "peers::a_killed_process_gives_its_memory_back",
            "comms::a_killed_peer_fails_the_other_end",
        ],
    ),
    (
        13,
        "what calls, tasks and bytes cost on which link",
        &[
            "copies::a_loop_of_copies_reaches_a_fifth_on_a3",
            "copies::an_asynchronous_batch_is_only_a_loop_on_a3",
            "copies::one_batch_reaches_most_of_the_link_on_a3",
            "copies::one_large_copy_reaches_the_link",
            "copies::pageable_memory_is_slow",
            "copies::two_streams_share_one_link",
            "copies::the_two_directions_do_not_share",
            "copies::an_asynchronous_batch_is_one_task_on_h200pcie",
            "copies::a_loop_of_copies_is_slow_on_a2_too",
            "copies::real_time_is_kept",
            "comms::the_link_between_cards_has_its_rate",
            "comms::a_card_that_sends_to_two_takes_twice_as_long",
            "numa::memory_of_the_other_node_is_slow",
            "numa::the_kernel_tells_where_memory_is",
        ],
    ),
    (
        14,
        "faults by variable, by file and by call",
        &[
            "faults::the_nth_call_fails_as_ordered",
            "faults::faults_come_from_a_file_while_the_process_runs",
            "faults::a_process_is_killed_on_order",
            "faults::a_lost_card_stays_lost",
            "faults::a_failed_task_is_told_by_the_wait",
            "faults::a_stream_can_stop_at_a_failure",
            "faults::a_bit_turns_on_order",
            "faults::a_card_can_be_made_small",
            "faults::a_stub_answers_one_code",
            "comms::a_remote_error_comes_on_order",
            "streams::a_stream_that_hangs_ends_by_abort_alone",
        ],
    ),
    (
        15,
        "versions",
        &[
            "faults::profiles_hide_what_a_version_has_not",
            "comms::a_newer_configuration_is_refused",
            "comms::an_older_library_takes_older_configurations",
            "comms::the_newest_configuration_is_of_the_next_version",
        ],
    ),
    (
        16,
        "what is left over is reported",
        &[
            "memory::what_is_left_over_is_reported",
            "memory::unfinished_work_and_communicators_are_reported",
        ],
    ),
];

/// The tests' sources.
const SOURCES: &[(&str, &str)] = &[
    ("comms", include_str!("comms.rs")),
    ("copies", include_str!("copies.rs")),
    ("devices", include_str!("devices.rs")),
    ("faults", include_str!("faults.rs")),
    ("memory", include_str!("memory.rs")),
    ("numa", include_str!("numa.rs")),
    ("peers", include_str!("peers.rs")),
    ("streams", include_str!("streams.rs")),
];

/// Names of the tests of a source: what `rule!` declares, and plain tests.
fn declared(module: &str, source: &str) -> Vec<String> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let name = |rest: &str| {
        let rest = rest.trim_start();
        // A rule of one version names that first.
        let rest = match rest.strip_prefix("on ") {
            Some(rest) => rest.split_once(',').unwrap().1.trim_start(),
            None => rest,
        };
        let end = rest.find(|letter| !is_word(letter)).unwrap();
        format!("{module}::{}", &rest[..end])
    };
    let rules = source.split("\nrule!(").skip(1);
    let plain = source.split("#[test]\nfn ").skip(1);
    rules.chain(plain).map(name).collect()
}

#[test]
fn every_rule_has_its_tests_and_every_test_its_rule() {
    let mut listed: Vec<&str> = Vec::new();
    for (place, (number, what, tests)) in RULES.iter().enumerate() {
        assert_eq!(usize::from(*number), place + 1, "{what}");
        assert!(!tests.is_empty(), "{what}");
        listed.extend(*tests);
    }
    assert_eq!(RULES.len(), 16);
    let of = |(module, source): &(&str, &str)| declared(module, source);
    let mut declared: Vec<String> = SOURCES.iter().flat_map(of).collect();
    listed.sort_unstable();
    declared.sort_unstable();
    assert_eq!(listed, declared);
}

#[test]
fn tests_are_found_in_a_source() {
    let source = "\nrule!(\n    one,\n\nrule!(on Cann81, two, |sim| {\n#[test]\nfn three() {";
    assert_eq!(declared("m", source), ["m::one", "m::two", "m::three"]);
}
