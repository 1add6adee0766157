//! Links between the cards of one node: whose turn it is to set one up, which ticket is next, and
//! the orders that wait for each port.
//!
//! ```text
//!   open ─▶ wanted ─ both cards free ─▶ joining ─ both ends stand ─▶ up ─ break, death ─▶ gone
//!                                          └────── an end fails ───────────────────────▲
//! ```
//! **Set-up.** A card sets up one link at a time (device facts, 2.1), and a link takes both its
//! cards. Whoever waits for a link holds no card meanwhile: the oldest wish whose two cards are
//! free gets its turn, younger ones overtake it when theirs are. So wishes cannot wait in a circle,
//! and a chain of any number of cards is linked in two rounds.
//!
//! **Tickets.** The tickets of a link are given out here, 0, 1, 2, ..., for chunks that the sender
//! has: their order is the order of the sends, and the receiver hears of them in that very order.
//! A ticket is never given for bytes that are still to come, so that what stands first in a link
//! can always move: links cannot wait for each other, however objects are relayed.
//!
//! **Orders** wait for their port's next question. A port that lets [`ORDERS_MAX`] of them wait
//! gets [`DeviceOrder::Reset`] in their place.
//!
//! Bounds: [`DEVICE_LINKS_MAX`], [`PORTS_MAX`], [`ORDERS_MAX`]. Lives on: shard 0. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chariot_base::SessionId;
use chariot_proto::Status;
use chariot_proto::device::{DeviceOrder, DevicePort};

use crate::limits::{DEVICE_LINKS_MAX, ORDERS_MAX, PORTS_MAX};

/// The answer to a question that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkEffect {
    /// Whose.
    pub session: SessionId,
    /// Its token.
    pub token: u32,
    /// What the port is told to do.
    pub order: DeviceOrder,
}

/// What became of a wish for a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Its number.
    pub link: u64,
    /// Whether both ends stand.
    pub is_up: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Waits for its two cards.
    Wanted,
    /// Ends that do not stand yet: the sender's, the receiver's.
    Joining(bool, bool),
    /// Both stand.
    Up,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    from: DevicePort,
    to: DevicePort,
    state: State,
    next_ticket: u64,
}

#[derive(Debug, Clone, Copy)]
struct Question {
    token: u32,
    deadline_ns: u64,
    order: u64,
}

#[derive(Debug, Default)]
struct Port {
    orders: VecDeque<DeviceOrder>,
    question: Option<Question>,
}

/// The links and orders of one tenant.
///
/// Lives on: shard 0.
#[derive(Debug, Default)]
pub struct DeviceLinks {
    ports: BTreeMap<DevicePort, Port>,
    links: BTreeMap<u64, Link>,
    by_pair: BTreeMap<(DevicePort, DevicePort), u64>,
    /// In the order of their wishes.
    wanted: VecDeque<u64>,
    /// Cards that set up a link now.
    joining: BTreeSet<DevicePort>,
    by_deadline: BTreeMap<(u64, u64), DevicePort>,
    answers: VecDeque<LinkEffect>,
    last_link: u64,
    order: u64,
}

impl DeviceLinks {
    /// Asks for the next order to a port, which comes as an effect.
    ///
    /// # Errors
    /// `InvalidArgument`: the port asks already; `Busy`: too many ports.
    pub fn next(&mut self, port: DevicePort, token: u32, deadline_ns: u64) -> Result<(), Status> {
        if !self.ports.contains_key(&port) && self.ports.len() >= PORTS_MAX {
            return Err(Status::Busy);
        }
        let entry = self.ports.entry(port).or_default();
        if entry.question.is_some() {
            return Err(Status::InvalidArgument);
        }
        self.order += 1;
        let order = self.order;
        entry.question = Some(Question {
            token,
            deadline_ns,
            order,
        });
        self.by_deadline.insert((deadline_ns, order), port);
        self.deliver(port);
        Ok(())
    }

    /// Queues an order for a port of a live session.
    pub fn tell(&mut self, port: DevicePort, order: DeviceOrder) {
        if !self.ports.contains_key(&port) && self.ports.len() >= PORTS_MAX {
            // It has never asked, and hears of what it missed when it does.
            return;
        }
        let orders = &mut self.ports.entry(port).or_default().orders;
        if orders.len() >= ORDERS_MAX {
            orders.clear();
            orders.push_back(DeviceOrder::Reset);
        } else if orders.front() != Some(&DeviceOrder::Reset) {
            orders.push_back(order);
        }
        self.deliver(port);
    }

    fn deliver(&mut self, port: DevicePort) {
        let entry = self.ports.get_mut(&port).expect("made by the caller");
        let Some(question) = entry.question else {
            return;
        };
        let Some(order) = entry.orders.pop_front() else {
            return;
        };
        entry.question = None;
        self.by_deadline
            .remove(&(question.deadline_ns, question.order));
        self.answers.push_back(LinkEffect {
            session: SessionId(port.session()),
            token: question.token,
            order,
        });
    }

    /// Wishes for a link, or finds the one there is.
    ///
    /// # Errors
    /// `InvalidArgument`: a link to itself; `Busy`: too many links.
    pub fn open(
        &mut self,
        from: DevicePort,
        to: DevicePort,
        now_ns: u64,
    ) -> Result<Opened, Status> {
        if from == to {
            return Err(Status::InvalidArgument);
        }
        if let Some(&link) = self.by_pair.get(&(from, to)) {
            let is_up = self.links[&link].state == State::Up;
            return Ok(Opened { link, is_up });
        }
        if self.links.len() >= DEVICE_LINKS_MAX {
            return Err(Status::Busy);
        }
        // Never used again, by a later start of the node neither: the clock only rises.
        self.last_link = now_ns.max(self.last_link + 1);
        let link = self.last_link;
        self.links.insert(
            link,
            Link {
                from,
                to,
                state: State::Wanted,
                next_ticket: 0,
            },
        );
        self.by_pair.insert((from, to), link);
        self.wanted.push_back(link);
        self.give_turns();
        Ok(Opened { link, is_up: false })
    }

    /// Lets every wish begin whose two cards are free, the oldest first.
    fn give_turns(&mut self) {
        let mut left = VecDeque::new();
        while let Some(number) = self.wanted.pop_front() {
            let link = self.links.get_mut(&number).expect("wishes are links");
            let (from, to) = (link.from, link.to);
            if self.joining.contains(&from) || self.joining.contains(&to) {
                left.push_back(number);
                continue;
            }
            link.state = State::Joining(true, true);
            self.joining.extend([from, to]);
            for (port, peer, sends) in [(from, to, true), (to, from, false)] {
                let link = number;
                self.tell(port, DeviceOrder::Connect { link, peer, sends });
            }
        }
        self.wanted = left;
    }

    fn own(&self, link: u64, port: DevicePort) -> Result<Link, Status> {
        let known = self.links.get(&link).copied().ok_or(Status::NotFound)?;
        if known.from == port || known.to == port {
            Ok(known)
        } else {
            Err(Status::NotFound)
        }
    }

    /// One end of a link stands.
    ///
    /// # Errors
    /// `NotFound`: the link is no more, or not this port's; `InvalidArgument`: it does not join.
    pub fn joined(&mut self, link: u64, port: DevicePort) -> Result<(), Status> {
        let known = self.own(link, port)?;
        let state = match known.state {
            State::Joining(true, receiver) if port == known.from => State::Joining(false, receiver),
            State::Joining(sender, true) if port == known.to => State::Joining(sender, false),
            State::Wanted | State::Joining(..) | State::Up => return Err(Status::InvalidArgument),
        };
        let state = if state == State::Joining(false, false) {
            State::Up
        } else {
            state
        };
        self.links.insert(link, Link { state, ..known });
        // Its card is free for the next link, whatever the other end does.
        self.joining.remove(&port);
        self.give_turns();
        Ok(())
    }

    /// Ends a link; both ends are told.
    ///
    /// # Errors
    /// `NotFound`: the link is no more, or not this port's.
    pub fn break_link(&mut self, link: u64, port: DevicePort) -> Result<(), Status> {
        let known = self.own(link, port)?;
        self.forget(link, known);
        for (port, peer) in [(known.from, known.to), (known.to, known.from)] {
            self.tell(port, DeviceOrder::Broken { link, peer });
        }
        self.give_turns();
        Ok(())
    }

    fn forget(&mut self, number: u64, link: Link) {
        self.links.remove(&number);
        self.by_pair.remove(&(link.from, link.to));
        self.wanted.retain(|one| *one != number);
        if let State::Joining(sender, receiver) = link.state {
            if sender {
                self.joining.remove(&link.from);
            }
            if receiver {
                self.joining.remove(&link.to);
            }
        }
    }

    /// Gives out `tickets` tickets for `count` chunks of a transfer, and tells the receiver.
    ///
    /// # Errors
    /// `NotFound`: the link is no more, or does not lead from this port; `Again`: it does not stand
    /// yet; `Busy`: the receiver is far behind.
    pub fn announce(
        &mut self,
        (link, from): (u64, DevicePort),
        number: u64,
        (first, count): (u32, u32),
        tickets: u32,
    ) -> Result<u64, Status> {
        let known = self.links.get_mut(&link).ok_or(Status::NotFound)?;
        if known.from != from {
            return Err(Status::NotFound);
        }
        // The receiver's end may stand although it has not said so yet.
        if !matches!(known.state, State::Up | State::Joining(false, _)) {
            return Err(Status::Again);
        }
        let to = known.to;
        let behind = self.ports.get(&to).map_or(0, |port| port.orders.len());
        if behind >= ORDERS_MAX / 2 {
            return Err(Status::Busy);
        }
        let ticket = known.next_ticket;
        known.next_ticket = ticket.checked_add(tickets.into()).ok_or(Status::Busy)?;
        let order = DeviceOrder::Receive {
            link,
            number,
            first,
            count,
            ticket,
        };
        self.tell(to, order);
        Ok(ticket)
    }

    /// Takes out an answer.
    pub fn take_answer(&mut self) -> Option<LinkEffect> {
        self.answers.pop_front()
    }

    /// Takes out a question whose deadline has passed: session and token.
    ///
    /// # Panics
    /// When its tables disagree, which is a bug of this one.
    pub fn take_expired(&mut self, now_ns: u64) -> Option<(SessionId, u32)> {
        let (&(deadline_ns, order), &port) = self.by_deadline.first_key_value()?;
        if deadline_ns > now_ns {
            return None;
        }
        self.by_deadline.remove(&(deadline_ns, order));
        let entry = self.ports.get_mut(&port).expect("registered in both");
        let question = entry.question.take().expect("registered in both");
        Some((SessionId(port.session()), question.token))
    }

    /// When the next question's deadline is.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.by_deadline.first_key_value().map(|(key, _)| key.0)
    }

    /// Releases the ports of a session that ended; the other ends of its links are told.
    pub fn drop_session(&mut self, session: SessionId) {
        let is_its = |port: DevicePort| port.session() == session.0;
        self.ports.retain(|port, entry| {
            if is_its(*port)
                && let Some(question) = entry.question
            {
                self.by_deadline
                    .remove(&(question.deadline_ns, question.order));
            }
            !is_its(*port)
        });
        let of_session = |(_, link): &(&u64, &Link)| is_its(link.from) || is_its(link.to);
        let ended: Vec<_> = self
            .links
            .iter()
            .filter(of_session)
            .map(|(number, link)| (*number, *link))
            .collect();
        for (number, link) in ended {
            self.forget(number, link);
            for (port, peer) in [(link.from, link.to), (link.to, link.from)] {
                if !is_its(port) {
                    self.tell(port, DeviceOrder::Broken { link: number, peer });
                }
            }
        }
        self.give_turns();
    }

    /// How many ports, links, and orders that wait there are.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let orders = self.ports.values().map(|port| port.orders.len()).sum();
        (self.ports.len(), self.links.len(), orders)
    }

    /// Checks that the tables agree.
    ///
    /// # Panics
    /// When they do not.
    pub fn check_invariants(&self) {
        assert_eq!(self.links.len(), self.by_pair.len());
        let mut joining = BTreeSet::new();
        for (number, link) in &self.links {
            assert_eq!(self.by_pair.get(&(link.from, link.to)), Some(number));
            assert_eq!(self.wanted.contains(number), link.state == State::Wanted);
            if let State::Joining(sender, receiver) = link.state {
                let ends = [(sender, link.from), (receiver, link.to)];
                for (_, port) in ends.into_iter().filter(|end| end.0) {
                    assert!(joining.insert(port), "a card joins one link at a time");
                }
            }
        }
        assert_eq!(joining, self.joining);
        let asking = self.ports.values().filter(|port| port.question.is_some());
        assert_eq!(asking.count(), self.by_deadline.len());
        for port in self.ports.values() {
            assert!(port.orders.len() <= ORDERS_MAX);
            assert!(port.question.is_none() || port.orders.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(session: u64) -> DevicePort {
        DevicePort::new(session, 0).unwrap()
    }

    /// Orders of a port, all of them.
    fn orders(links: &mut DeviceLinks, of: DevicePort) -> Vec<DeviceOrder> {
        let mut out = Vec::new();
        loop {
            links.next(of, 1, 100).unwrap();
            if let Some(answer) = links.take_answer() {
                out.push(answer.order);
                continue;
            }
            assert_eq!(links.take_expired(100), Some((SessionId(of.session()), 1)));
            return out;
        }
    }

    fn connects(links: &mut DeviceLinks, of: DevicePort) -> Vec<(u64, DevicePort, bool)> {
        let connect = |order| match order {
            DeviceOrder::Connect { link, peer, sends } => Some((link, peer, sends)),
            _ => None,
        };
        orders(links, of).into_iter().filter_map(connect).collect()
    }

    #[test]
    fn a_chain_of_sixteen_cards_is_linked_in_two_rounds() {
        let mut links = DeviceLinks::default();
        for from in 0..16 {
            links.open(port(from), port(from + 1), 1).unwrap();
        }
        let mut rounds = 0;
        let mut stand = 0;
        while stand < 16 {
            rounds += 1;
            let mut joins = Vec::new();
            for session in 0..17 {
                let own = connects(&mut links, port(session));
                assert!(own.len() <= 1, "one link at a time");
                joins.extend(own.into_iter().map(|one| (one.0, port(session))));
            }
            assert!(!joins.is_empty());
            for (link, of) in joins {
                links.joined(link, of).unwrap();
                links.check_invariants();
                stand += usize::from(links.links[&link].state == State::Up);
            }
        }
        assert_eq!(rounds, 2);
    }

    #[test]
    fn wishes_in_a_circle_get_their_turns() {
        let mut links = DeviceLinks::default();
        for from in 0..3 {
            links.open(port(from), port((from + 1) % 3), 1).unwrap();
            links.open(port((from + 1) % 3), port(from), 1).unwrap();
        }
        let mut stand = 0;
        for _ in 0..6 {
            let mut joins = Vec::new();
            for session in 0..3 {
                let own = connects(&mut links, port(session));
                joins.extend(own.into_iter().map(|one| (one.0, port(session))));
            }
            for (link, of) in joins {
                links.joined(link, of).unwrap();
                stand += usize::from(links.links[&link].state == State::Up);
            }
        }
        assert_eq!(stand, 6);
    }

    #[test]
    fn tickets_are_given_in_the_order_of_the_receives() {
        let mut links = DeviceLinks::default();
        let (from, to) = (port(1), port(2));
        let link = links.open(from, to, 7).unwrap().link;
        let early = links.announce((link, from), 5, (0, 1), 1);
        assert_eq!(early, Err(Status::Again), "nothing stands yet");
        assert_eq!(connects(&mut links, from), [(link, to, true)]);
        assert_eq!(connects(&mut links, to), [(link, from, false)]);
        links.joined(link, from).unwrap();
        assert_eq!(links.joined(link, from), Err(Status::InvalidArgument));
        assert_eq!(links.announce((link, from), 5, (0, 2), 6), Ok(0));
        assert_eq!(links.announce((link, from), 9, (3, 1), 1), Ok(6));
        let backwards = links.announce((link, to), 9, (3, 1), 1);
        assert_eq!(backwards, Err(Status::NotFound));
        links.joined(link, to).unwrap();
        assert!(links.open(from, to, 9).unwrap().is_up);
        let told: Vec<_> = orders(&mut links, to)
            .into_iter()
            .map(|order| match order {
                DeviceOrder::Receive { number, ticket, .. } => (number, ticket),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [(5, 0), (9, 6)]);
        links.check_invariants();
    }

    #[test]
    fn strangers_neither_join_nor_break_a_link() {
        let mut links = DeviceLinks::default();
        let link = links.open(port(1), port(2), 1).unwrap().link;
        assert_eq!(links.joined(link, port(3)), Err(Status::NotFound));
        assert_eq!(links.break_link(link, port(3)), Err(Status::NotFound));
        assert_eq!(links.joined(99, port(1)), Err(Status::NotFound));
        let itself = links.open(port(1), port(1), 1);
        assert_eq!(itself, Err(Status::InvalidArgument));
    }

    #[test]
    fn a_death_in_each_state_frees_the_cards_and_is_told() {
        for joins in 0..3 {
            let mut links = DeviceLinks::default();
            let (a, b, c) = (port(1), port(2), port(3));
            let first = links.open(a, b, 1).unwrap().link;
            let second = links.open(b, c, 1).unwrap().link;
            for of in [b, a].into_iter().take(joins) {
                links.joined(first, of).unwrap();
            }
            links.drop_session(SessionId(1));
            links.check_invariants();
            let told = orders(&mut links, b);
            let broken = DeviceOrder::Broken {
                link: first,
                peer: a,
            };
            assert!(told.contains(&broken), "{joins}: {told:?}");
            // The card that was busy with the dead one goes on with the next.
            assert_eq!(connects(&mut links, c), [(second, b, false)]);
            assert_eq!(links.counts().1, 1);
            let again = links.open(a, b, 1).unwrap();
            assert_ne!(again.link, first, "a number is never used again");
        }
    }

    #[test]
    fn a_port_that_does_not_ask_is_told_to_begin_anew() {
        let mut links = DeviceLinks::default();
        for _ in 0..=ORDERS_MAX {
            links.tell(port(1), DeviceOrder::Moved { hash: (1, 2) });
        }
        links.check_invariants();
        links.tell(port(1), DeviceOrder::Moved { hash: (1, 2) });
        assert_eq!(orders(&mut links, port(1)), [DeviceOrder::Reset]);
    }

    #[test]
    fn a_receiver_far_behind_holds_its_senders_up() {
        let mut links = DeviceLinks::default();
        let (from, to) = (port(1), port(2));
        let link = links.open(from, to, 1).unwrap().link;
        links.joined(link, from).unwrap();
        let mut given = 0;
        while links.announce((link, from), 1, (0, 1), 1).is_ok() {
            given += 1;
        }
        assert!(given <= ORDERS_MAX / 2);
        orders(&mut links, to);
        links.announce((link, from), 1, (0, 1), 1).unwrap();
    }

    #[test]
    fn one_question_at_a_time() {
        let mut links = DeviceLinks::default();
        links.next(port(1), 1, 100).unwrap();
        let twice = links.next(port(1), 2, 100);
        assert_eq!(twice, Err(Status::InvalidArgument));
        assert_eq!(links.next_deadline_ns(), Some(100));
        links.drop_session(SessionId(1));
        assert_eq!(links.next_deadline_ns(), None);
        assert_eq!(links.counts(), (0, 0, 0));
    }
}
