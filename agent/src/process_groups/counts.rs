//! What is counted of a process, and by how much it grew since it was last read.

/// What is counted, in the order of [`Counts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// CPU time in user mode, in ticks.
    User,
    /// CPU time in kernel mode, in ticks.
    System,
    /// Page faults without input.
    MinorFaults,
    /// Page faults with input.
    MajorFaults,
    /// Bytes read from disks.
    Read,
    /// Bytes written to disks.
    Written,
    /// Switches to another task that it asked for.
    Voluntary,
    /// The others.
    Nonvoluntary,
}

/// One number for each [`Count`].
pub(super) type Counts = [u64; 8];

/// Adds to each.
pub(super) fn add(to: &mut Counts, counts: &Counts) {
    to.iter_mut().zip(counts).for_each(|(to, count)| *to = to.saturating_add(*count));
}

/// What a process or thread had counted when it was last read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Last {
    counts: Counts,
    known: u8,
}

impl Last {
    /// Takes up what is counted now and answers by how much it grew. The first time it grew from 0 where it began
    /// while we watched, and not at all where it was there before us. It never shrinks: some counts of the kernel
    /// are sums that are not taken all at once.
    pub(super) fn grown(&mut self, count: Count, now: u64, began_watched: bool) -> u64 {
        let (last, bit) = (&mut self.counts[count as usize], 1 << count as u8);
        let is_known = self.known & bit != 0;
        self.known |= bit;
        let grown = match (is_known, began_watched) {
            (true, _) => now.saturating_sub(*last),
            (false, true) => now,
            (false, false) => 0,
        };
        *last = now.max(*last);
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_us_counts_from_when_we_came() {
        let mut last = Last::default();
        assert_eq!([7, 9, 8, 10].map(|now| last.grown(Count::User, now, false)), [0, 2, 0, 1]);
        let mut last = Last::default();
        assert_eq!([7, 9].map(|now| last.grown(Count::User, now, true)), [7, 2]);
        assert_eq!(last.grown(Count::Read, 5, false), 0, "a family that was switched on later");
    }
}
