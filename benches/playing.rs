//! Measures how well `deepj play` keeps time at a MIDI port: composes and plays to a virtual port of its own, notes
//! when each message arrives there, and prints when that was against when it was due: `cargo bench --features midi-port
//! --bench playing -- [--minutes 5]`. With `--changes` density and style change every two seconds. Linux or macOS; by
//! JACK with `--features midi-port,midir/jack`.

#[cfg(unix)]
mod measuring {
    use std::process::ExitCode;
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use clap::Parser;
    use deepj::checkpoint::Checkpoint;
    use deepj::generate::live::Manner;
    use deepj::generate::steering::Wishes;
    use deepj::gpu::Device;
    use deepj::graph::session::KernelSelection;
    use deepj::music::StylePath;
    use deepj::play::composer::{Composer, Length, Request};
    use deepj::play::control::Change;
    use deepj::play::port::PortSink;
    use deepj::play::{Clock, Message, Queue, Sink, SystemClock, hurry, schedule};
    use deepj::{Error, Result};
    use midir::os::unix::VirtualInput;

    /// What arrives later than this is another message.
    const NEAR: Duration = Duration::from_millis(250);
    const PORT: &str = "deepj measures";

    /// Measures when messages arrive at a MIDI port
    #[derive(Parser)]
    struct Flags {
        /// How long to play
        #[arg(long, default_value_t = 5.0)]
        minutes: f64,
        /// Change density and style every two seconds
        #[arg(long)]
        changes: bool,
        /// What `cargo bench` gives to each program
        #[arg(long, hide = true)]
        bench: bool,
    }

    /// A port, and when each message was due.
    struct Measured {
        clock: SystemClock,
        port: PortSink,
        due: Vec<(Instant, Message)>,
    }

    impl Sink for Measured {
        fn clock(&self) -> &dyn Clock {
            &self.clock
        }

        fn send(&mut self, at: f64, message: Message) -> Result<()> {
            self.due.push((self.clock.origin() + Duration::from_secs_f64(at), message));
            self.port.send(at, message)
        }

        fn advance(&mut self, until: f64) -> Result<()> {
            self.port.advance(until)
        }

        fn silence(&mut self) {
            self.port.silence();
        }
    }

    fn wrong(what: impl std::fmt::Display) -> Error {
        Error::run(what.to_string(), "start ALSA's sequencer, or JACK")
    }

    fn measure(flags: &Flags) -> Result<()> {
        let (arrive, arrived) = mpsc::channel();
        let heard = move |_: u64, message: &[u8], (): &mut ()| drop(arrive.send((Instant::now(), message.to_vec())));
        let input = midir::MidiInput::new("deepj measures").map_err(wrong)?;
        let _input = input.create_virtual(PORT, heard, ()).map_err(wrong)?;
        let checkpoint = Checkpoint::builtin()?;
        let (style, _) = StylePath::parse("romantic", &checkpoint.styles)?;
        let wishes = Wishes { levels: checkpoint.corpus.levels.clone(), ..Wishes::default() };
        let request = Request {
            style,
            manner: Manner { style: vec![], temperature: 0.8, wishes },
            silence: 0.1,
            seed: 1,
            bpm: 120.0,
            length: Length::Seconds(60.0 * flags.minutes),
            beginning: None,
            faders: vec!["baroque".into(), "romantic".into()],
        };
        let queue = Queue::default();
        let (sender, changes) = mpsc::channel();
        let mut made = 0;
        let (played, due) = std::thread::scope(|scope| {
            let playing = scope.spawn(|| -> Result<_> {
                let mut sink = Measured { clock: SystemClock::default(), port: PortSink::open(PORT)?, due: vec![] };
                hurry();
                let played = schedule(&queue, &mut sink, &mut || println!("composed too late"));
                Ok((played, sink.due))
            });
            if flags.changes {
                let (sender, queue) = (sender, &queue);
                scope.spawn(move || {
                    for i in 0.. {
                        std::thread::sleep(Duration::from_secs(2));
                        let level = f64::from(i % 3) / 2.0;
                        let all = [Change::Density(0.5 + level), Change::Weight("baroque".into(), level)];
                        if queue.is_closed() || all.into_iter().any(|change| sender.send(change).is_err()) {
                            return;
                        }
                    }
                });
            }
            let device = Device::Cpu { why: String::new() };
            let composing = async {
                let mut composer = Composer::new(&checkpoint, request, device, KernelSelection::default()).await?;
                composer.run(&queue, &changes, &mut || false, &mut |change| made += usize::from(change.is_ok())).await
            };
            let composed = pollster::block_on(composing);
            queue.stop();
            let played = playing.join().map_err(|_| wrong("the thread that plays has ended"))??;
            composed.map(|()| played)
        })?;
        let (late, lost) = lateness(&due, arrived.try_iter().collect());
        let (messages, report) = (due.len(), &played.report);
        println!("{messages} messages in {:.1} s, {lost} lost, {made} changes", report.seconds);
        println!("paused {} times, {:.3} s", report.pauses, report.paused);
        let of = |late: &[f64], share: f64| {
            let mut late = late.to_vec();
            late.sort_by(f64::total_cmp);
            late.get((share * late.len().saturating_sub(1) as f64).round() as usize).map_or(f64::NAN, |late| 1e3 * late)
        };
        let sent = |share| 1e3 * report.late_by(share).unwrap_or(f64::NAN);
        println!("sent late, ms: median {:.3}, 99 % {:.3}, most {:.3}", sent(0.5), sent(0.99), sent(1.0));
        println!(
            "arrived late, ms: median {:.3}, 99 % {:.3}, most {:.3}",
            of(&late, 0.5),
            of(&late, 0.99),
            of(&late, 1.0)
        );
        let tenth = late.len() / 10;
        let (first, last) = (&late[..tenth], &late[late.len() - tenth..]);
        println!("arrived late, median ms: {:.3} in the first tenth, {:.3} in the last", of(first, 0.5), of(last, 0.5));
        println!("drift, ms a minute: {:.4}", 6e4 * report.drift().unwrap_or(f64::NAN));
        Ok(())
    }

    /// By how many seconds each message that was due arrived late, and how many never did.
    fn lateness(due: &[(Instant, Message)], mut arrivals: Vec<(Instant, Vec<u8>)>) -> (Vec<f64>, usize) {
        let mut late: Vec<f64> = vec![];
        let mut lost = 0;
        for (due, message) in due {
            let is_it = |bytes: &[u8]| match *message {
                Message::Down { pitch, .. } => bytes[..2] == [0x90, pitch],
                Message::Up { pitch } => bytes[..2] == [0x80, pitch],
            };
            // Messages at one moment may change places on their way, and the same one of a later moment is another.
            let near = |at: &Instant| at.checked_duration_since(*due).is_some_and(|late| late < NEAR);
            match arrivals.iter().position(|(at, bytes)| near(at) && is_it(bytes)) {
                Some(place) => late.push(arrivals.remove(place).0.duration_since(*due).as_secs_f64()),
                None => lost += 1,
            }
        }
        (late, lost)
    }

    pub fn main() -> ExitCode {
        match measure(&Flags::parse()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("error: {e}");
                ExitCode::FAILURE
            }
        }
    }
}

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    measuring::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("error: this system has no virtual MIDI ports");
}
