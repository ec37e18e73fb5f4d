//! Which groups of a pod stay whole, and which are folded into one.

/// How many stay whole, and which are large enough to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of a pod; 0 for any number.
    pub top_per_pod: usize,
    /// Of what is no pod's; 0 for any number.
    pub top_outside_pods: usize,
    /// A group with less resident memory is folded, unless its CPU time is enough; 0 for no such limit.
    pub least_memory: u64,
    /// A group with less CPU time, in ticks, is folded, unless its memory is enough; 0 for no such limit.
    pub least_cpu: u64,
    /// Whether the largest are those with the most CPU time, and not those with the most memory.
    pub by_cpu: bool,
}

/// A group that may stay whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) pod: u32,
    pub(super) group: u32,
    pub(super) memory: u64,
    pub(super) cpu: u64,
    pub(super) is_whole: bool,
}

/// A folded group takes the place of a whole one only where it is more than so many times as large, so that two of about
/// the same size do not take turns: each turn begins new series.
const MARGIN: u64 = 2;

impl Limits {
    /// Decides about every candidate; `pod` 0 is what is no pod's.
    pub(super) fn choose(&self, candidates: &mut [Candidate], mut decide: impl FnMut(u32, bool)) {
        let rank = |c: &Candidate| {
            let size = if self.by_cpu { c.cpu } else { c.memory };
            let favoured = size.saturating_mul(if c.is_whole { MARGIN } else { 1 });
            (c.pod, !self.is_large(c), std::cmp::Reverse(favoured), !c.is_whole, c.group)
        };
        candidates.sort_unstable_by_key(rank);
        let (mut pod, mut place) = (u32::MAX, 0);
        for candidate in candidates.iter() {
            place = if candidate.pod == pod { place + 1 } else { 0 };
            pod = candidate.pod;
            let top = if pod == 0 { self.top_outside_pods } else { self.top_per_pod };
            decide(candidate.group, self.is_large(candidate) && (top == 0 || place < top));
        }
    }

    fn is_large(&self, c: &Candidate) -> bool {
        let reaches =
            |size: u64, least: u64| least > 0 && size >= if c.is_whole { least / MARGIN } else { least };
        (self.least_memory == 0 && self.least_cpu == 0)
            || reaches(c.memory, self.least_memory)
            || reaches(c.cpu, self.least_cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which groups are whole, by their memory; the CPU time is a tenth.
    #[track_caller]
    fn check(limits: Limits, groups: &[(u32, u64, bool)], expected: &[u32]) {
        let mut candidates: Vec<_> = (0..)
            .zip(groups)
            .map(|(group, (pod, memory, is_whole))| Candidate {
                pod: *pod,
                group,
                memory: *memory,
                cpu: memory / 10,
                is_whole: *is_whole,
            })
            .collect();
        let mut whole = Vec::new();
        limits.choose(&mut candidates, |group, is_whole| whole.extend(is_whole.then_some(group)));
        whole.sort_unstable();
        assert_eq!(whole, expected);
    }

    #[test]
    fn the_largest_of_each_pod_stay_whole() {
        let limits = Limits { top_per_pod: 2, ..Limits::default() };
        let groups =
            [(1, 10, false), (1, 30, false), (1, 20, false), (2, 1, false), (0, 1, false), (0, 1, false)];
        check(limits, &groups, &[1, 2, 3, 4, 5]);
        check(Limits { top_outside_pods: 1, ..limits }, &groups, &[1, 2, 3, 4]);
        check(Limits::default(), &groups, &[0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_whole_group_stays_until_another_is_more_than_twice_as_large() {
        let limits = Limits { top_per_pod: 1, ..Limits::default() };
        check(limits, &[(1, 10, true), (1, 20, false)], &[0]);
        check(limits, &[(1, 10, true), (1, 21, false)], &[1]);
        check(limits, &[(1, 0, true), (1, 0, false)], &[0]);
    }

    #[test]
    fn a_group_is_large_enough_by_memory_or_by_cpu_until_it_is_half_of_that() {
        let limits = Limits { least_memory: 100, ..Limits::default() };
        check(limits, &[(1, 99, false), (1, 100, false), (1, 50, true), (1, 49, true)], &[1, 2]);
        let limits = Limits { least_cpu: 20, ..limits };
        check(limits, &[(1, 99, false), (1, 200, false)], &[1]);
        let by_cpu = Limits { least_cpu: 9, by_cpu: true, ..Limits::default() };
        check(by_cpu, &[(1, 99, false), (1, 89, false)], &[0]);
    }
}
