package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync"
)

// goroutine is the number of the current one, as a panic would print it.
func goroutine() uint64 {
	buffer := make([]byte, 64)
	buffer = buffer[:runtime.Stack(buffer, false)]
	fields := bytes.Fields(buffer)
	number, err := strconv.ParseUint(string(fields[1]), 10, 64)
	if err != nil {
		panic(err)
	}
	return number
}

// end is one end of a connection and the goroutine that alone reads and writes there.
type end struct {
	Goroutine uint64 `json:"goroutine"`
	Local     int    `json:"local"`
	Peer      int    `json:"peer"`
	Requests  int    `json:"requests"`
}

func printEnd(connection net.Conn, number uint64, requests int) {
	line := end{
		Goroutine: number, Requests: requests,
		Local: connection.LocalAddr().(*net.TCPAddr).Port, Peer: connection.RemoteAddr().(*net.TCPAddr).Port,
	}
	outLock.Lock()
	defer outLock.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		os.Exit(1)
	}
}

// answer serves one connection in one goroutine; GET /start calls start.
func answer(connection net.Conn, start func()) {
	defer connection.Close()
	reader := bufio.NewReader(connection)
	requests := 0
	for {
		request, err := http.ReadRequest(reader)
		if err != nil {
			break
		}
		if request.URL.Path == "/start" {
			start()
		}
		if _, err := io.WriteString(connection, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"); err != nil {
			break
		}
		requests++
	}
	printEnd(connection, goroutine(), requests)
}

// call makes two requests one after the other in one goroutine.
func call(address string) {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		panic(err)
	}
	defer connection.Close()
	reader := bufio.NewReader(connection)
	for n := range 2 {
		fmt.Fprintf(connection, "GET /%d HTTP/1.1\r\nHost: test\r\n\r\n", n)
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			panic(err)
		}
		io.Copy(io.Discard, response.Body)
		// Another thread goes on with this goroutine, perhaps.
		runtime.Gosched()
	}
	printEnd(connection, goroutine(), 2)
}

// goroutines serves, and after GET /start calls itself with a goroutine per connection, on two threads; the answer to
// that comes after the last of them.
func goroutines(count int) error {
	runtime.GOMAXPROCS(2)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("{\"listening\": %d}\n", listener.Addr().(*net.TCPAddr).Port)
	start := func() {
		var callers sync.WaitGroup
		for range count {
			callers.Add(1)
			go func() {
				defer callers.Done()
				call(listener.Addr().String())
			}()
		}
		callers.Wait()
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go answer(connection, start)
	}
}
