//! A turn in a network namespace that has nothing but its loopback interface, for programs that would otherwise call home.
//! Needs no privileges where the system lets everybody make user namespaces.

use std::process::{Command, Stdio};

use crate::{
    Result,
    figures::{FIGURES, Sample},
    process::{find, printed},
    system::System,
    tunnel::role,
};

/// Brings up the loopback interface and becomes the program given, which ends if the benchmark dies.
const ENTER: [&str; 6] =
    ["unshare", "-rn", "sh", "-c", "ip link set lo up && exec setpriv --pdeathsig KILL -- \"$@\"", "sh"];

/// The reason why this system has no such namespaces, if it has none.
pub fn available() -> Result<()> {
    find("ip")?;
    let said = printed(ENTER[0], &[&ENTER[1..], &["echo", "inside"]].concat())?;
    if said.trim() == "inside" { Ok(()) } else { Err(format!("no network namespace: {}", said.trim()).into()) }
}

/// Lets this program, in its role `turn`, measure `system` in there.
pub fn turn(system: &dyn System, quick: bool, rare: bool, sample: &mut Sample) -> Result<()> {
    let inner = role(&["turn", system.name(), &quick.to_string(), &rare.to_string()])?;
    let mut command = Command::new(ENTER[0]);
    command.args(&ENTER[1..]).arg(inner.get_program()).args(inner.get_args()).env("P2PMOUNT_NETWORK", "local");
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let (key, value) = line.split_once(' ').ok_or("a turn says KEY VALUE")?;
        let figure = FIGURES.iter().find(|figure| figure.key == key).ok_or("a turn says what it measures")?;
        sample.insert(figure.key, value.parse()?);
    }
    if output.status.success() { Ok(()) } else { Err("not everything could be measured".into()) }
}

/// Says in there what was measured.
pub fn tell(sample: &Sample) {
    for (key, value) in sample {
        println!("{key} {value}");
    }
}
