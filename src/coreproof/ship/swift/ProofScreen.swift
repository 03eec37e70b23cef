// ProofScreen: the model on this device against what coreproof predicted, on every processor; exported as device.json.

import SwiftUI
import UIKit

struct ProofScreen: View {
    let plan: Plan
    @StateObject private var proof = Proof()

    var body: some View {
        NavigationStack {
            List {
                Section {
                    Text("Runs \(plan.photos.count) bundled photos on each processor and compares with what \(plan.engine) answered.")
                        .font(.subheadline)
                    Button(proof.running ? "Running…" : "Prove it on this device") { Task { await proof.run(plan) } }
                        .disabled(proof.running || plan.photos.isEmpty)
                    if proof.running { ProgressView(value: proof.progress) }
                }
                ForEach(proof.results) { result in ResultSection(plan: plan, result: result) }
                if let problem = proof.problem { Text(problem).foregroundStyle(.red) }
                if let url = proof.exported {
                    Section {
                        ShareLink(item: url) { Label("Export device.json", systemImage: "square.and.arrow.up") }
                        Text("Then: coreproof compare … --import device.json").font(.footnote).foregroundStyle(.secondary)
                    }
                }
            }
            .navigationTitle("Proof")
        }
    }
}

private struct ResultSection: View {
    let plan: Plan
    let result: Proof.Result

    var body: some View {
        Section(result.processor) {
            if plan.kind == .classifier {
                row("Same first class", "\(result.agreeing) of \(result.compared)")
            }
            row("Largest difference", result.largest.formatted(.number.precision(.significantDigits(2))))
            row("Time of a prediction", "\(result.milliseconds.formatted(.number.precision(.fractionLength(1)))) ms")
            ForEach(result.disagreements, id: \.self) { Text($0).font(.footnote) }
        }
    }

    private func row(_ name: String, _ value: String) -> some View {
        HStack {
            Text(name)
            Spacer()
            Text(value).monospacedDigit().foregroundStyle(.secondary)
        }
        .accessibilityElement(children: .combine)
    }
}
