package server

import "github.com/tidings-sse/tidings"

const (
	fewestSpare = 100
	mostSpare   = 1000
)

// streamsWithin returns how many streams fit into a limit on open files. What is spared is for everything else: the
// program's own files, requests, streams that are refused, and the second descriptor that a stream may need while it is
// taken over from net/http.
func streamsWithin(files int) int {
	spare := min(max(files/32, fewestSpare), mostSpare, files/2)
	return max(files-spare, 1)
}

// fit raises the limit on open files, says what it is, and lowers the streams that the hub may have to what fits into
// it: a server that is full tells clients to come back, and one without open files can't even accept them. Streams over
// HTTP/2 share a file, but how many will is not known beforehand.
func (s *Server) fit(o *tidings.Options) {
	files, err := raiseOpenFiles()
	if err != nil {
		s.log.Warn(logOpenFiles, keyError, err)
	}
	s.openFiles, s.maxConnections = files, o.MaxConnections
	if files == 0 {
		return
	}
	s.log.Info(logOpenFiles, keyLimit, files)
	if most := streamsWithin(files); most < o.MaxConnections {
		s.log.Warn(logFewerStreams, keyWanted, o.MaxConnections, keyStreams, most, keyLimit, files, keyRemedy, remedyOpenFiles)
		s.maxConnections, o.MaxConnections = most, most
	}
}
