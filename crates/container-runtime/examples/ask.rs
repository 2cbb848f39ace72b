//! Asks about a container: `cargo run -p spandrel-container-runtime --example ask -- SOCKET ID`. Prints what its runtime says,
//! and how long one question takes (the median of 21, each by a thread of its own).
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use spandrel_container_runtime::{Answer, Names, Settings};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(socket), Some(id)) = (arguments.next(), arguments.next()) else {
        println!("usage: ask SOCKET ID");
        return;
    };
    let mut times = Vec::new();
    for round in 0..21 {
        let mut names = Names::new(Settings {
            sockets: vec![socket.clone().into()],
            hold: Duration::from_secs(10),
        });
        let start = Instant::now();
        names.take_in(1);
        let answer = loop {
            match names.look_up(&id, None) {
                Answer::NotYet => std::thread::sleep(Duration::from_micros(50)),
                other => break other,
            }
            let since = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            names.take_in(since.saturating_add(1));
        };
        times.push(start.elapsed());
        if round == 0 {
            println!("{answer:#?}\n{:?}", names.counters().snapshot());
        }
    }
    times.sort_unstable();
    println!("{:?}", times.get(10));
}
