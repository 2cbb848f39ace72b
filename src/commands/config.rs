//! `spandrel config`: validate, print, schema.

use std::io::{self, Write};

use super::{Exports, load};
use crate::cli::Config;
use crate::exit::Exit;
use crate::standard_error::say;

/// Carries the configuration command out.
pub(super) fn execute(command: Config) -> anyhow::Result<Exit> {
    let text = match command {
        Config::Validate { file } => {
            load(Some(&file), Exports::Yes)?;
            say(format_args!("{}: valid", file.display()));
            return Ok(Exit::Done);
        }
        Config::Print { file } => {
            spandrel_config::print(&load(file.as_deref(), Exports::Yes)?.config)
        }
        Config::Schema => spandrel_config::json_schema(),
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(Exit::Done)
}
