// Command traffic is an HTTP/1.1 client or server on net/http that prints one JSON line of ground truth per request.
//
//	traffic server --port 0                      first line: {"listening": PORT}
//	traffic client --port N --count N --connections N --path /a/{n}
//	traffic goroutines --count N                 serves, and calls itself after GET /start; a line per end
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

type record struct {
	Method       string `json:"method"`
	Path         string `json:"path"`
	Status       *int   `json:"status"`
	StartNs      int64  `json:"start_ns"`
	EndNs        int64  `json:"end_ns"`
	RequestBody  int64  `json:"request_body"`
	ResponseBody int64  `json:"response_body"`
	Error        string `json:"error,omitempty"`
}

var (
	out     = json.NewEncoder(os.Stdout)
	outLock sync.Mutex
)

func (r record) print() {
	outLock.Lock()
	defer outLock.Unlock()
	if err := out.Encode(r); err != nil {
		os.Exit(1)
	}
}

func listen(host string, port int, multipath bool, path string) (net.Listener, error) {
	var config net.ListenConfig
	if path != "" {
		return config.Listen(context.Background(), "unix", path)
	}
	config.SetMultipathTCP(multipath)
	return config.Listen(context.Background(), "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
}

func serve(listener net.Listener) error {
	port := 0
	if address, ok := listener.Addr().(*net.TCPAddr); ok {
		port = address.Port
	}
	fmt.Printf("{\"listening\": %d}\n", port)
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		received, err := io.Copy(io.Discard, r.Body)
		status, body := http.StatusOK, "ok\n"
		if code, ok := strings.CutPrefix(r.URL.Path, "/status/"); ok {
			status, _ = strconv.Atoi(code)
			body = "status\n"
		}
		w.WriteHeader(status)
		sent, _ := io.WriteString(w, body)
		line := record{
			Method: r.Method, Path: r.RequestURI, Status: &status, StartNs: start.UnixNano(),
			EndNs: time.Now().UnixNano(), RequestBody: received, ResponseBody: int64(sent),
		}
		if err != nil {
			line.Error = err.Error()
		}
		line.print()
	}))
}

func request(client *http.Client, method, url, path string, body int) {
	line := record{Method: method, Path: path, RequestBody: int64(body), StartNs: time.Now().UnixNano()}
	var content io.Reader
	if body > 0 {
		content = strings.NewReader(strings.Repeat("x", body))
	}
	req, err := http.NewRequest(method, url+path, content)
	if err != nil {
		panic(err)
	}
	response, err := client.Do(req)
	if err == nil {
		line.Status = &response.StatusCode
		// Read to the end, or net/http does not use the connection again.
		line.ResponseBody, err = io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
	if err != nil {
		line.Error = err.Error()
	}
	line.EndNs = time.Now().UnixNano()
	line.print()
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: traffic server|client|goroutines [flags]")
		os.Exit(2)
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	host := flags.String("host", "127.0.0.1", "address")
	port := flags.Int("port", 0, "port")
	count := flags.Int("count", 1, "requests in all")
	connections := flags.Int("connections", 1, "connections that are kept alive")
	method := flags.String("method", "GET", "method")
	path := flags.String("path", "/", "path; {n} becomes the request's number")
	body := flags.Int("body", 0, "bytes of the request's body")
	multipath := flags.Bool("mptcp", false, "listen or connect by MPTCP")
	socket := flags.String("unix", "", "listen on this path instead")
	_ = flags.Parse(os.Args[2:])

	if os.Args[1] == "server" {
		listener, err := listen(*host, *port, *multipath, *socket)
		if err == nil {
			err = serve(listener)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if os.Args[1] == "goroutines" {
		fmt.Fprintln(os.Stderr, goroutines(*count))
		os.Exit(1)
	}
	url := "http://" + net.JoinHostPort(*host, strconv.Itoa(*port))
	numbers := make(chan int)
	var workers sync.WaitGroup
	for range *connections {
		workers.Add(1)
		go func() {
			defer workers.Done()
			// One transport each: one connection each.
			var dialer net.Dialer
			dialer.SetMultipathTCP(*multipath)
			transport := &http.Transport{MaxConnsPerHost: 1, DialContext: dialer.DialContext}
			client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
			for number := range numbers {
				request(client, *method, url, strings.ReplaceAll(*path, "{n}", strconv.Itoa(number)), *body)
			}
			client.CloseIdleConnections()
		}()
	}
	for number := range *count {
		numbers <- number
	}
	close(numbers)
	workers.Wait()
}
