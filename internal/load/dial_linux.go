package load

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// dialer begins connections to one server.
type dialer struct {
	family        int
	server        unix.Sockaddr
	sources       []unix.Sockaddr // used in turn; none is the system's choice
	receiveBuffer int
}

func newDialer(server netip.AddrPort, sources []netip.Addr, receiveBuffer int) *dialer {
	d := &dialer{family: unix.AF_INET6, server: sockaddr(server), receiveBuffer: receiveBuffer}
	if server.Addr().Is4() {
		d.family = unix.AF_INET
	}
	for _, a := range sources {
		d.sources = append(d.sources, sockaddr(netip.AddrPortFrom(a, 0)))
	}
	return d
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// dial returns a socket that is connected, or is about to be.
func (d *dialer) dial(number int) (fd int, err error) {
	fd, err = unix.Socket(d.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err = d.connect(fd, number); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func (d *dialer) connect(fd, number int) error {
	if d.receiveBuffer > 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, d.receiveBuffer); err != nil {
			return err
		}
	}
	if len(d.sources) > 0 {
		// Without this, bind takes a port that no other connection from the address may use, whatever its server.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return err
		}
		switch err := unix.Bind(fd, d.sources[number%len(d.sources)]); err {
		case nil:
		case unix.EADDRNOTAVAIL:
			return failure{"the source address is not this machine's", true}
		default:
			return err
		}
	}
	if err := unix.Connect(fd, d.server); err != nil && err != unix.EINPROGRESS {
		return err
	}
	return nil
}
