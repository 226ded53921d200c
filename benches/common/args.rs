//! What a bench is told on its command line.

/// The settings of a run.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    /// Fewer rounds, and shorter ones.
    pub(crate) quick: bool,
    /// Numbers of sessions.
    pub(crate) sizes: Vec<usize>,
}

impl Args {
    /// Reads the command line; prints the help and ends the process if that is asked for.
    ///
    /// `about` says what the bench measures, `sizes` are its numbers of sessions, with `--quick` the
    /// second ones.
    pub(crate) fn parse(about: &str, sizes: [&[usize]; 2]) -> Self {
        let mut args = Self { quick: false, sizes: Vec::new() };
        for arg in std::env::args().skip(1) {
            match arg.as_str() {
                // Cargo adds it.
                "--bench" => {}
                "--quick" => args.quick = true,
                "--help" | "-h" => {
                    println!("{}", help(about, sizes));
                    std::process::exit(0);
                }
                size => match size.replace('_', "").parse() {
                    Ok(size) if size > 0 => args.sizes.push(size),
                    _ => {
                        eprintln!("not understood: {size}\n\n{}", help(about, sizes));
                        std::process::exit(2);
                    }
                },
            }
        }
        if args.sizes.is_empty() {
            args.sizes = sizes[usize::from(args.quick)].to_vec();
        }
        args
    }

    /// `quick` of a quick run, `full` otherwise.
    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

fn help(about: &str, sizes: [&[usize]; 2]) -> String {
    format!(
        "{about}\n\nOptions: [--quick] [--help] [SESSIONS ...]\n\
         SESSIONS: how many sessions; {:?} by default, {:?} with --quick",
        sizes[0], sizes[1]
    )
}
