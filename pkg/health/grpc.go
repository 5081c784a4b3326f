package health

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/fairlead/fairlead/pkg/model"
)

// A gRPC health check is one call of grpc.health.v1.Health/Check (grpc/doc/health-checking.md) over HTTP/2 in the clear
// (PROTOCOL-HTTP2.md). Its messages have one field each, which is why they are written and read here without the gRPC module.
const (
	healthMethod = "/grpc.health.v1.Health/Check"
	serving      = 1 // HealthCheckResponse.SERVING

	// frameHeader of a message: a byte that says whether it is compressed, four of its length.
	frameHeader = 5
	// maxHealth bounds an answer's message, which has two bytes.
	maxHealth = 1 << 10

	// Tags of the protobuf fields: number 1, of wire types length-delimited (2) and varint (0).
	tagService = 1<<3 | 2
	tagStatus  = 1 << 3
)

// healthStatus are the names of the answers.
var healthStatus = map[uint64]string{0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}

// askHealth asks a backend's health service.
func askHealth(ctx context.Context, target model.Target) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, urlOf(target, healthMethod),
		bytes.NewReader(healthRequest(target.Check.Service)))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("Te", "trailers")
	request.Header.Set("User-Agent", userAgent)
	transport := transportTo(target)
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return failure("HTTP status " + answer.Status)
	}
	message, err := io.ReadAll(io.LimitReader(answer.Body, maxHealth))
	if err != nil {
		return err
	}
	// A call that fails has its status in the trailers, or, without a message, in the headers.
	code := cmp.Or(answer.Trailer.Get("Grpc-Status"), answer.Header.Get("Grpc-Status"))
	if code != "0" {
		text, err := url.PathUnescape(cmp.Or(answer.Trailer.Get("Grpc-Message"), answer.Header.Get("Grpc-Message")))
		if err != nil {
			text = "its message cannot be read"
		}
		return failure(fmt.Sprintf("gRPC status %s: %s", cmp.Or(code, "missing"), text))
	}
	return readHealth(message)
}

// healthRequest is the frame of a HealthCheckRequest.
func healthRequest(service string) []byte {
	var message []byte
	if service != "" {
		message = append(binary.AppendUvarint([]byte{tagService}, uint64(len(service))), service...)
	}
	frame := make([]byte, frameHeader, frameHeader+len(message))
	binary.BigEndian.PutUint32(frame[1:], uint32(len(message)))
	return append(frame, message...)
}

// readHealth reads the frame of a HealthCheckResponse. A status of 0 is not sent.
func readHealth(frame []byte) error {
	if len(frame) < frameHeader || frame[0] != 0 || int(binary.BigEndian.Uint32(frame[1:])) != len(frame)-frameHeader {
		return failure("the answer is no HealthCheckResponse")
	}
	var status uint64
	if message := frame[frameHeader:]; len(message) > 0 {
		var n int
		if status, n = binary.Uvarint(message[1:]); message[0] != tagStatus || n <= 0 {
			return failure("the answer is no HealthCheckResponse")
		}
	}
	if status != serving {
		return failure("status " + cmp.Or(healthStatus[status], fmt.Sprint(status)))
	}
	return nil
}
