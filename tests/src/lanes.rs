//! Many cases of a proof, some at a time, each lane on ground of its own; a case that fails does not end the others.

use std::{
    any::Any,
    fmt::Debug,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::Ground;

/// So many cases at a time: they wait for processes most of the time.
const LANES: usize = 3;

/// Goes through all cases, on `first` and on ground that is made for it. Gives what each case found, in no order, and what
/// those that failed said.
pub fn go_through<C: Debug + Sync, F: Send>(
    first: &Ground,
    cases: &[C],
    work: impl Fn(&Ground, &C) -> F + Sync,
) -> (Vec<F>, Vec<String>) {
    let next = AtomicUsize::new(0);
    let found = Mutex::new((Vec::new(), Vec::new()));
    let lane = |ground: &Ground| {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = catch_unwind(AssertUnwindSafe(|| work(ground, case)));
            let mut found = found.lock().unwrap();
            match outcome {
                Ok(one) => found.0.push(one),
                Err(panic) => {
                    let text = format!("{case:?}: {}", words(&*panic));
                    eprintln!("--- failed: {text}");
                    found.1.push(text);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        (1..LANES.min(cases.len())).for_each(|_| drop(scope.spawn(|| lane(&Ground::new()))));
        lane(first);
    });
    found.into_inner().unwrap()
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}

/// So many numbers from 1 to `all`, at equal distances.
pub fn spread(all: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |number| 1 + (2 * number + 1) * all / (2 * count))
}
