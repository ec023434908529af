//! kill -9, hang, stop and upgrade of what serves a mount, at any moment: whoever uses the mount
//! notices a pause and nothing else.

mod survival {
    mod endurance;
    mod faults;
    mod kill;
    mod pauses;
    mod peace;
    mod protocol;
    pub(crate) mod scene;
    pub(crate) mod service;
    mod supervisor;
}
