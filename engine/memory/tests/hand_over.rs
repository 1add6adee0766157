//! Memory follows the writers: what an idle one holds goes to the one that writes.

#[cfg(test)]
mod tests {
    use chariot_base::limits::GRANULE_BYTES;
    use chariot_base::{GranuleIndex, RecordId, ShardId, TenantId};
    use chariot_memory::{
        ExtentAllocator, Grant, GranuleLedger, LedgerOptions, TakeOutcome, TakeTicket,
    };

    const TENANT: TenantId = TenantId(0);
    const GRANULES: u32 = 16;
    const LEN: u64 = 3 << 20;

    struct Node {
        ledger: GranuleLedger,
        shards: Vec<Shard>,
    }

    #[derive(Default)]
    struct Shard {
        allocator: ExtentAllocator,
        offsets: Vec<Option<u64>>,
        payload: u64,
    }

    impl Shard {
        fn add(&mut self, grant: Grant) {
            self.allocator.add_granules(grant.first, grant.count);
        }

        fn write(&mut self) -> bool {
            let Some(extent) = self.allocator.allocate(LEN) else {
                return false;
            };
            self.offsets.push(Some(extent.offset));
            let raw = u32::try_from(self.offsets.len()).expect("few objects");
            self.allocator.set_tag(extent.offset, RecordId::new(raw));
            self.payload += LEN;
            true
        }

        fn vacate(&mut self) -> GranuleIndex {
            let granule = self.allocator.vacate_candidate().expect("it holds some");
            self.allocator.begin_vacate(granule);
            let mut tags = Vec::new();
            assert_eq!(self.allocator.tags_in(granule, &mut tags), 0);
            for tag in tags {
                let offset = self.offsets[tag.get() as usize - 1]
                    .take()
                    .expect("live once");
                self.allocator.free(offset);
                self.payload -= LEN;
            }
            self.allocator.remove_granule(granule);
            self.allocator.check_invariants();
            granule
        }
    }

    impl Node {
        fn new() -> Self {
            let options = LedgerOptions {
                granule_count: GRANULES,
                shard_count: 2,
            };
            let mut ledger = GranuleLedger::new(options);
            ledger.add_tenant(TENANT);
            ledger.populate_ahead(TENANT);
            let mut node = Self {
                ledger,
                shards: vec![Shard::default(), Shard::default()],
            };
            node.work_off();
            node
        }

        fn work_off(&mut self) {
            while let Some(work) = self.ledger.next_work() {
                self.ledger.work_done(work);
            }
        }

        /// Writes as long as the node has room that nobody uses.
        fn fill(&mut self, shard: u16) -> TakeTicket {
            loop {
                while self.shards[usize::from(shard)].write() {}
                match self.ledger.take(TENANT, ShardId(shard), 1) {
                    TakeOutcome::Granted(grant) => self.shards[usize::from(shard)].add(grant),
                    TakeOutcome::Waiting(ticket) => return ticket,
                    TakeOutcome::TooLarge => panic!("one granule is not too large"),
                }
            }
        }
    }

    #[test]
    fn keys_of_one_shard_fill_the_whole_node() {
        let mut node = Node::new();
        node.fill(0);
        let useful = node.shards[0].payload as f64 / (u64::from(GRANULES) * GRANULE_BYTES) as f64;
        assert!(useful > 0.95, "{useful}");
    }

    #[test]
    fn writer_alone_reaches_nine_tenths_after_another_filled_the_node_and_idles() {
        let mut node = Node::new();
        let ticket = node.fill(0);
        assert!(node.ledger.cancel(ticket), "the first writer stops");
        node.ledger.set_coldness(TENANT, ShardId(0), 1);
        node.ledger.set_coldness(TENANT, ShardId(1), 2);
        let goal = u64::from(GRANULES) * GRANULE_BYTES * 9 / 10;
        while node.shards[1].payload < goal {
            let ticket = node.fill(1);
            let (named, plan) = node.ledger.vacate_plan().expect("the node is full");
            assert_eq!(named, ticket);
            assert_eq!(plan.any, [(TENANT, ShardId(0), 1)], "the idle one gives");
            let granule = node.shards[0].vacate();
            node.ledger.give_back(TENANT, ShardId(0), granule);
            let grant = loop {
                if let Some((served, grant)) = node.ledger.poll_grant() {
                    assert_eq!(served, ticket);
                    break grant;
                }
                assert!(node.ledger.stats().waiting_count == 1, "served or waiting");
                node.work_off();
            };
            node.shards[1].add(grant);
            node.work_off();
            node.ledger.check_invariants();
        }
        node.shards
            .iter()
            .for_each(|shard| shard.allocator.check_invariants());
    }
}
