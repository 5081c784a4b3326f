package convert

import (
	"bytes"
	"encoding/json"
	"fmt"

	"sigs.k8s.io/yaml"
)

// YAML is the objects of the result as documents, pools first, without what only an API server writes.
func (r Result) YAML() ([]byte, error) {
	documents, err := r.documents()
	return bytes.Join(documents, []byte("---\n")), err
}

func (r Result) documents() ([][]byte, error) {
	var objects []any
	for i := range r.Pools {
		objects = append(objects, &r.Pools[i])
	}
	for i := range r.Claims {
		objects = append(objects, &r.Claims[i])
	}
	if r.Map != nil {
		objects = append(objects, r.Map)
	}
	var documents [][]byte
	for _, o := range objects {
		document, err := tidy(o)
		if err != nil {
			return nil, fmt.Errorf("write %T: %w", o, err)
		}
		documents = append(documents, document)
	}
	return documents, nil
}

// tidy writes an object without its status and creationTimestamp, which a struct has even when nobody set them.
func tidy(o any) ([]byte, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	var meta map[string]json.RawMessage
	if err := json.Unmarshal(fields["metadata"], &meta); err != nil {
		return nil, err
	}
	delete(fields, "status")
	delete(meta, "creationTimestamp")
	if fields["metadata"], err = json.Marshal(meta); err != nil {
		return nil, err
	}
	if text, err = json.Marshal(fields); err != nil {
		return nil, err
	}
	return yaml.JSONToYAML(text)
}
