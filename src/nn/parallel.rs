//! Parallel map over independent jobs, each on one thread. It avoids the synchronisation between threads that every
//! single multi-threaded operation needs.

use crate::error::{Error, Result};
use candle_core::Device;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

/// Runs `work` on each job, as many at a time as there are threads, and passes the results to `take` in the order of
/// the jobs. Stops at the first error and returns it.
pub fn map_in_order<J: Sync, R: Send>(
    jobs: &[J],
    device: &Device,
    work: impl Fn(&J) -> Result<R> + Sync,
    mut take: impl FnMut(usize, R) -> Result<()>,
) -> Result<()> {
    // An accelerator runs one job at a time: each job is parallel in itself.
    let threads = if device.is_cpu() { rayon::current_num_threads().min(jobs.len()) } else { 1 };
    let pools = (0..threads).map(|_| rayon::ThreadPoolBuilder::new().num_threads(1).build());
    let pools = match pools.collect::<std::result::Result<Vec<_>, _>>() {
        Ok(p) if threads > 1 => p,
        // A single thread, or thread pools could not be created: run the jobs one after the other on this thread.
        _ => return jobs.iter().enumerate().try_for_each(|(i, j)| take(i, work(j)?)),
    };
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (give, results) = sync_channel(threads);
        for pool in &pools {
            let (give, next, work) = (give.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(i) else { break };
                    let result = pool.install(|| work(job));
                    if give.send((i, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(give);
        let (mut early, mut at) = (BTreeMap::new(), 0);
        for (i, result) in results {
            // Returning drops the receiver, which makes the workers stop after their current job.
            early.insert(i, result?);
            while let Some(r) = early.remove(&at) {
                take(at, r)?;
                at += 1;
            }
        }
        if at == jobs.len() { Ok(()) } else { Err(Error::Numeric("a worker thread ended early".into())) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_error_ends_it() {
        let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        for threads in [1, 3] {
            pool(threads).install(|| {
                let jobs: Vec<u64> = (0..40).collect();
                let mut got = vec![];
                let work = |j: &u64| {
                    assert_eq!(rayon::current_num_threads(), 1);
                    std::thread::sleep(std::time::Duration::from_micros(500 * (j % 3)));
                    Ok(j * j)
                };
                map_in_order(&jobs, &Device::Cpu, work, |i, r| {
                    got.push((i as u64, r));
                    Ok(())
                })
                .unwrap();
                assert_eq!(got, jobs.iter().map(|j| (*j, j * j)).collect::<Vec<_>>());
                let failing = |j: &u64| if *j == 7 { Err(Error::Numeric("seven".into())) } else { Ok(*j) };
                let mut taken = 0;
                let e = map_in_order(&jobs, &Device::Cpu, failing, |_, _| {
                    taken += 1;
                    Ok(())
                });
                assert!(e.unwrap_err().to_string().contains("seven") && taken <= 7);
                assert!(
                    map_in_order(&jobs, &Device::Cpu, |j| Ok(*j), |_, _| Err(Error::Numeric("no".into()))).is_err()
                );
            });
        }
    }
}
