package cluster

import (
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
)

// NewMiniAmong returns a mini whose JobManager is one of several that campaign in a store.
func NewMiniAmong(store ha.Election, cfg MiniConfig) (*Mini, error) {
	settings, err := config.New(cfg.Settings...)
	if err != nil {
		return nil, err
	}
	at, err := cfg.open(settings)
	if err != nil {
		return nil, err
	}
	at.ha, at.shared = store, true
	return newMini(cfg, settings, at)
}
