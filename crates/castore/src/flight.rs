//! Single flight: of several threads that want the same thing, one fetches it.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Condvar, Mutex};

use crate::{Digest, Error};

/// The fetches under way.
#[derive(Debug)]
pub(crate) struct Flights<T> {
    flights: Mutex<HashMap<Digest, Arc<Flight<T>>>>,
}

#[derive(Debug)]
struct Flight<T> {
    landed: Mutex<Option<Result<T, Error>>>,
    changed: Condvar,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self {
            flights: Mutex::default(),
        }
    }
}

impl<T: Clone> Flights<T> {
    /// Fetches what `digest` names, or waits for the thread that does and
    /// returns its result.
    pub(crate) fn fetch(
        &self,
        digest: &Digest,
        fetch: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let flight = {
            let mut flights = self.flights.lock();
            if let Some(flight) = flights.get(digest).cloned() {
                drop(flights);
                return flight.join();
            }
            let flight = Arc::new(Flight {
                landed: Mutex::default(),
                changed: Condvar::new(),
            });
            flights.insert(*digest, flight.clone());
            flight
        };
        // Others are let go even if the fetch panics.
        let landing = Landing {
            flights: self,
            digest,
            flight: &flight,
        };
        let result = fetch();
        *flight.landed.lock() = Some(match &result {
            Ok(value) => Ok(value.clone()),
            Err(error) => Err(same_error(error)),
        });
        drop(landing);
        result
    }
}

impl<T: Clone> Flight<T> {
    fn join(&self) -> Result<T, Error> {
        let mut landed = self.landed.lock();
        loop {
            match &*landed {
                Some(Ok(value)) => return Ok(value.clone()),
                Some(Err(error)) => return Err(same_error(error)),
                None => self.changed.wait(&mut landed),
            }
        }
    }
}

struct Landing<'a, T> {
    flights: &'a Flights<T>,
    digest: &'a Digest,
    flight: &'a Flight<T>,
}

impl<T> Drop for Landing<'_, T> {
    fn drop(&mut self) {
        self.flights.flights.lock().remove(self.digest);
        self.flight.landed.lock().get_or_insert_with(|| {
            Err(Error::Backend {
                place: "the fetch by another thread".to_owned(),
                detail: "its thread panicked".to_owned(),
            })
        });
        self.flight.changed.notify_all();
    }
}

/// The error for those who waited: the same where the kind matters to a caller.
fn same_error(error: &Error) -> Error {
    match error {
        Error::Corrupt {
            object,
            place,
            detail,
        } => Error::Corrupt {
            object: object.clone(),
            place: place.clone(),
            detail: detail.clone(),
        },
        Error::Missing { object } => Error::Missing {
            object: object.clone(),
        },
        error => Error::Backend {
            place: "the fetch by another thread".to_owned(),
            detail: error.to_string(),
        },
    }
}
