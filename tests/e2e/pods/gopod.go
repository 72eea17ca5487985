// What Go's own net/http does as a server, as a client and as a proxy, and what its io.Copy does between two
// connections: `gopod serve | fetch URL TIMES | pool URL REQUESTS GOROUTINES | reverse URL | relay HOST:PORT`.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const listen = ":8080"

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func number(text string) int {
	found, err := strconv.Atoi(text)
	check(err)
	return found
}

// Answers with what it was asked, as JSON; /bytes/N with N bytes.
func describe(w http.ResponseWriter, r *http.Request) {
	if size := strings.TrimPrefix(r.URL.Path, "/bytes/"); size != r.URL.Path {
		w.Header().Set("Content-Length", size)
		io.CopyN(w, zeros{}, int64(number(size)))
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client left
	}
	sum := sha256.Sum256(body)
	headers := map[string]string{"host": r.Host}
	for name, values := range r.Header {
		headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	peer, _, _ := net.SplitHostPort(r.RemoteAddr)
	text, err := json.Marshal(map[string]any{
		"server": "go", "method": r.Method, "target": r.URL.RequestURI(), "headers": headers,
		"peer": peer, "length": len(body), "sha256": hex.EncodeToString(sum[:]),
	})
	check(err)
	w.Header().Set("Content-Type", "application/json")
	w.Write(text)
}

type zeros struct{}

func (zeros) Read(into []byte) (int, error) {
	for i := range into {
		into[i] = 0
	}
	return len(into), nil
}

func text(response *http.Response, err error) string {
	check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	check(err)
	if response.StatusCode != 200 {
		check(fmt.Errorf("%s: %s", response.Status, body))
	}
	return string(body)
}

// A GET and a POST, one after the other, on one connection, so many times.
func fetch(target string, times int) {
	client := &http.Client{Timeout: 10 * time.Second}
	for i := 0; i < times; i++ {
		fmt.Println(text(client.Get(target)))
		fmt.Println(text(client.Post(target, "application/octet-stream", bytes.NewReader(make([]byte, 100000)))))
	}
}

// So many POSTs by a pool of connections, each with a body of its own; prints how many came back as they went.
func pool(target string, requests, goroutines int) {
	transport := &http.Transport{MaxIdleConnsPerHost: goroutines}
	client := &http.Client{Timeout: 20 * time.Second, Transport: transport}
	var group sync.WaitGroup
	for g := 0; g < goroutines; g++ {
		group.Add(1)
		go func(g int) {
			defer group.Done()
			for i := g; i < requests; i += goroutines {
				body := bytes.Repeat([]byte{byte(i)}, i*137%50000+1)
				var answer struct{ Sha256 string }
				check(json.Unmarshal([]byte(text(client.Post(target, "x/y", bytes.NewReader(body)))), &answer))
				if sum := sha256.Sum256(body); answer.Sha256 != hex.EncodeToString(sum[:]) {
					check(fmt.Errorf("body %d came as another one", i))
				}
			}
		}(g)
	}
	group.Wait()
	fmt.Println(requests)
}

// Joins each connection with one to the target, by io.Copy: that is splice(2).
func relay(target string) {
	listener, err := net.Listen("tcp", listen)
	check(err)
	for {
		from, err := listener.Accept()
		check(err)
		go func() {
			defer from.Close()
			to, err := net.Dial("tcp", target)
			if err != nil {
				return
			}
			defer to.Close()
			go func() {
				io.Copy(to, from)
				to.(*net.TCPConn).CloseWrite()
			}()
			io.Copy(from, to)
		}()
	}
}

func main() {
	switch os.Args[1] {
	case "serve":
		check(http.ListenAndServe(listen, http.HandlerFunc(describe)))
	case "fetch":
		fetch(os.Args[2], number(os.Args[3]))
	case "pool":
		pool(os.Args[2], number(os.Args[3]), number(os.Args[4]))
	case "reverse":
		target, err := url.Parse(os.Args[2])
		check(err)
		check(http.ListenAndServe(listen, httputil.NewSingleHostReverseProxy(target)))
	case "relay":
		relay(os.Args[2])
	}
}
