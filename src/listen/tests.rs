//! Sockets by port and by path, new and handed over.

use std::os::unix::net::UnixStream;

use super::*;

fn path_in(folder: &tempfile::TempDir) -> Address {
    Address::Unix(folder.path().join("socket"))
}

fn mode_of(address: &Address) -> u32 {
    let Address::Unix(path) = address else { return 0 };
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_path_has_its_mode_and_a_socket_that_was_left_there_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let address = path_in(&folder);
    let first = Listener::bind(&address, 0o620).unwrap();
    assert_eq!((mode_of(&address), first.address().unwrap()), (0o620, address.clone()));
    let refused = Listener::bind(&address, 0o600).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "somebody listens there: {refused}");
    drop(first);
    let second = Listener::bind(&address, 0o600).unwrap();
    assert_eq!(mode_of(&address), 0o600);
    drop(second);
}

#[test]
fn whoever_listens_and_accepts_nobody_is_there_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let address = path_in(&folder);
    let path = folder.path().join("socket");
    let stuck = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    stuck.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    stuck.listen(0).unwrap();
    let _waits = UnixStream::connect(&path).unwrap();
    let refused = Listener::bind(&address, 0o600).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "{refused}");
}

#[test]
fn what_is_no_socket_is_never_removed() {
    let folder = tempfile::tempdir().unwrap();
    let address = path_in(&folder);
    fs::write(folder.path().join("socket"), "somebody's").unwrap();
    assert_eq!(Listener::bind(&address, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert_eq!(fs::read(folder.path().join("socket")).unwrap(), b"somebody's");
}

fn handed_on(listener: &Listener, role: Role) -> Given {
    let label = Given::label(role, listener);
    Given::labelled(&label, listener.as_fd().try_clone_to_owned().unwrap()).unwrap()
}

#[test]
fn sockets_handed_over_are_found_by_what_they_were_asked_to_be_and_others_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let (any, path) = (Address::Tcp("127.0.0.1:0".parse().unwrap()), path_in(&folder));
    let old = [Listener::bind(&any, 0).unwrap(), Listener::bind(&path, 0o600).unwrap()];
    let admin = Listener::bind(&any, 0).unwrap();
    let given = vec![handed_on(&old[0], Role::Data), handed_on(&admin, Role::Admin), handed_on(&old[1], Role::Data)];
    let mut inherited = Inherited::new(given);
    let data = inherited.take(Role::Data, &[path.clone(), any.clone(), any.clone()], 0o600, Some(&any)).unwrap();
    let addresses = data.iter().map(|listener| listener.address().unwrap()).collect::<Vec<_>>();
    assert_eq!(addresses[..2], [path, old[0].address().unwrap()]);
    assert!(addresses[2] != addresses[1] && addresses[2] != admin.address().unwrap(), "a third is new");
    let found = inherited.take(Role::Admin, std::slice::from_ref(&any), 0, Some(&any)).unwrap();
    assert_eq!(found[0].address().unwrap(), admin.address().unwrap());
    assert!(inherited.is_empty());
}

#[test]
fn sockets_of_a_service_manager_are_all_there_are() {
    let any = Address::Tcp("127.0.0.1:0".parse().unwrap());
    let managed = |role| {
        let made = Listener::bind(&any, 0).unwrap();
        let address = made.address().unwrap();
        (
            Given { role, listener: Listener::of(made.as_fd().try_clone_to_owned().unwrap(), None, true).unwrap() },
            address,
        )
    };
    let ((first, first_at), (second, second_at), (third, third_at)) =
        (managed(None), managed(None), managed(Some(Role::Data)));
    let mut inherited = Inherited::new(vec![first, second, third]);
    let data =
        inherited.take(Role::Data, &[Address::Tcp("127.0.0.1:1".parse().unwrap())], 0, Some(&second_at)).unwrap();
    let addresses = data.iter().map(|listener| listener.address().unwrap()).collect::<Vec<_>>();
    assert_eq!(addresses, [first_at, third_at]);
    let admin = inherited.take(Role::Admin, std::slice::from_ref(&second_at), 0, Some(&second_at)).unwrap();
    assert!(admin.len() == 1 && admin[0].is_managed());
    let again = handed_on(&admin[0], Role::Admin);
    assert!(again.listener.is_managed(), "it stays so when it is handed on");
}

#[test]
fn a_label_that_is_none_is_refused() {
    let any = Address::Tcp("127.0.0.1:0".parse().unwrap());
    let listener = Listener::bind(&any, 0).unwrap();
    for label in ["", "data", "data own", "nobody own 127.0.0.1:0", "data own nowhere"] {
        assert!(Given::labelled(label, listener.as_fd().try_clone_to_owned().unwrap()).is_err(), "{label:?}");
    }
    let (one, _other) = UnixStream::pair().unwrap();
    let datagram = std::os::unix::net::UnixDatagram::unbound().unwrap();
    assert!(Given::labelled("data own 127.0.0.1:0", datagram.into()).is_err());
    drop(one);
}
