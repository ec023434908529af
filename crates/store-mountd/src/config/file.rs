//! The file of settings.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;
use toml::de::DeTable;

use super::{Config, Invalid, Settings};

/// The settings of a file, and where in it they are.
#[derive(Debug)]
pub(crate) struct SettingsFile {
    path: PathBuf,
    pub(crate) settings: Settings,
    places: BTreeMap<String, Place>,
}

/// A line and a column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// What is wrong with a file.
#[derive(Debug)]
pub(crate) struct ConfigError {
    path: PathBuf,
    place: Option<Place>,
    reason: String,
    source: Option<io::Error>,
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(Place { line, column }) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.reason)
    }
}

impl SettingsFile {
    /// # Errors
    /// If the file cannot be read, is no TOML, or has what is no setting.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError {
            path: path.to_owned(),
            place: None,
            reason: format!("cannot read the configuration: {source}"),
            source: Some(source),
        })?;
        Self::parse(path, &text)
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let error = |place, reason| ConfigError {
            path: path.to_owned(),
            place,
            reason,
            source: None,
        };
        let of_toml = |toml: toml::de::Error| {
            let place = toml.span().map(|span| Place::of(text, span.start));
            error(place, one_line(toml.message()))
        };
        let table = DeTable::parse(text).map_err(of_toml)?;
        let mut places = BTreeMap::new();
        for key in table.get_ref().keys() {
            let place = Place::of(text, key.span().start);
            let name = key.get_ref().to_string();
            if !names().contains(&name) {
                return Err(error(Some(place), unknown(&name)));
            }
            places.insert(name, place);
        }
        let file = Self {
            path: path.to_owned(),
            settings: toml::from_str(text).map_err(of_toml)?,
            places,
        };
        file.check_paths()?;
        Ok(file)
    }

    /// The configuration, with what `flags` say instead where they do.
    ///
    /// # Errors
    /// See [`Settings::resolve`].
    pub(crate) fn under(&self, flags: Settings) -> Result<Config, ConfigError> {
        flags
            .or(self.settings.clone())
            .resolve()
            .map_err(|Invalid { field, reason }| self.error(field, reason))
    }

    /// A service has no directory to which a path could be relative.
    fn check_paths(&self) -> Result<(), ConfigError> {
        let Settings {
            store, mountpoint, ..
        } = &self.settings;
        for (name, path) in [("store", store), ("mountpoint", mountpoint)] {
            if path.as_ref().is_some_and(|path| !path.is_absolute()) {
                return Err(self.error(name, "the path must be absolute"));
            }
        }
        Ok(())
    }

    fn error(&self, field: &str, reason: &str) -> ConfigError {
        ConfigError {
            path: self.path.clone(),
            place: self.places.get(field).copied(),
            reason: format!("{field}: {reason}"),
            source: None,
        }
    }
}

impl Place {
    fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// The names of all settings.
pub(super) fn names() -> Vec<String> {
    match serde_json::to_value(Settings::default()) {
        Ok(Value::Object(fields)) => fields.into_iter().map(|(name, _)| name).collect(),
        Ok(_) | Err(_) => Vec::new(),
    }
}

/// How like a name another must be to be meant, from 0 to 1.
const LIKENESS: f64 = 0.7;

fn unknown(name: &str) -> String {
    let names = names();
    let likeness = |other: &&String| strsim::jaro_winkler(&name.replace('_', "-"), other);
    let nearest = names
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .filter(|nearest| likeness(nearest) >= LIKENESS);
    match nearest {
        Some(nearest) => format!("there is no setting '{name}'; did you mean '{nearest}'?"),
        None => format!(
            "there is no setting '{name}'; there are {}",
            names.join(", ")
        ),
    }
}

fn one_line(message: &str) -> String {
    message.lines().collect::<Vec<_>>().join("; ")
}
