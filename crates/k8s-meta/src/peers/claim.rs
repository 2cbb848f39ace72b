//! Who says since when that an address is its own, and who of several is believed.

use std::net::IpAddr;

/// Where a claim comes from; the first is believed before the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    Pod,
    ClusterIp,
    External,
    Node,
}

/// The best first.
const SOURCES: [Source; 4] = [
    Source::Pod,
    Source::ClusterIp,
    Source::External,
    Source::Node,
];

/// An object's claim on an address. Times are Unix nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) address: IpAddr,
    pub(crate) source: Source,
    /// Before this it was certainly not the object's.
    pub(crate) earliest: u64,
    /// From here on it certainly was.
    pub(crate) from: u64,
    /// It has ended by then.
    pub(crate) until: u64,
    /// It did not end before that.
    pub(crate) sure: bool,
}

/// The answer of all claims on an address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict<T> {
    Owner(T),
    /// Somebody got the address about that time, and it is not known exactly when.
    Ambiguous,
    /// Somebody had it and has it no more.
    Ended,
    Nobody,
}

/// Of each source the claim counts that began last: those before it are over, even where their end was told later.
/// Of those in force the best source counts. After its end a claim says nothing of its address: whoever speaks from there
/// then is somebody of whom nothing has been told yet.
pub(crate) fn decide<T: Copy>(claims: &[(T, &Claim)], at: u64) -> Verdict<T> {
    let newest = |source: Source| {
        let begun = claims
            .iter()
            .filter(|(_, it)| it.source == source && it.from <= at);
        begun.max_by_key(|(_, it)| it.from)
    };
    let newcomer = |best: Source| {
        let before = |it: &Claim| it.earliest <= at && at < it.from && it.source <= best;
        claims.iter().any(|(_, it)| before(it))
    };
    let mut ended = false;
    for (owner, claim) in SOURCES.into_iter().filter_map(newest) {
        if at < claim.until {
            let settled = claim.sure || claim.source != Source::Pod;
            return if settled || !newcomer(claim.source) {
                Verdict::Owner(*owner)
            } else {
                Verdict::Ambiguous
            };
        }
        ended = true;
    }
    if newcomer(Source::Node) {
        Verdict::Ambiguous
    } else if ended {
        Verdict::Ended
    } else {
        Verdict::Nobody
    }
}
