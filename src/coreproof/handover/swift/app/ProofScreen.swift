// ProofScreen: the model on this device against what coreproof answered, on every processor; exported as device.json.

import SwiftUI
import UniformTypeIdentifiers

struct ProofScreen: View {
    let plan: Plan
    @State private var proof = Proof()
    @State private var saving: DeviceFile?
    @State private var choosing = false
    @State private var problem: String?

    var body: some View {
        NavigationStack {
            List {
                Section {
                    Button {
                        Task { await proof.run(plan) }
                    } label: {
                        Label(proof.running ? "Running" : "Prove it on this device", systemImage: "checkmark.seal")
                    }
                    .disabled(proof.running || plan.samples.isEmpty)
                    if proof.running {
                        ProgressView(value: proof.progress).accessibilityLabel("Progress of the proof")
                    }
                } footer: {
                    Text("""
                    Runs \(plan.samples.count) bundled samples on the CPU, the GPU and the Neural Engine in turn and compares \
                    with what \(plan.engine) answered. Core ML decides which layers really run there.
                    """)
                }
                if !proof.cuts.isEmpty { cutSection }
                ForEach(proof.results) { result in ResultSection(plan: plan, result: result) }
                ForEach(proof.problems, id: \.self) { problem in
                    Label {
                        Text(verbatim: problem)
                    } icon: {
                        Image(systemName: "exclamationmark.triangle").foregroundStyle(.red)
                    }
                }
                if let url = proof.exported { exportSection(url) }
            }
            .navigationTitle("Proof")
        }
    }

    private var cutSection: some View {
        Section {
            if let picture = plan.picture { Text(verbatim: picture.words) }
            Row("Photos cut here", "\(proof.cuts.count)")
            Row("Furthest from the verification's", "\(furthest.formatted(.number.precision(.fractionLength(2)))) of 255")
        } header: {
            Text("Crop, scale and orientation")
        } footer: {
            Text("""
            The mean difference over a photo's pixels. Two decoders of JPEG files differ by about 1; a wrong crop or \
            orientation is far above.
            """)
        }
    }

    private var furthest: Double { proof.cuts.max() ?? 0 }

    private func exportSection(_ url: URL) -> some View {
        Section {
            ShareLink(item: url) { Label("Share device.json", systemImage: "square.and.arrow.up") }
            Button {
                saving = DeviceFile(url)
                choosing = saving != nil
            } label: {
                Label("Save device.json to Files", systemImage: "folder")
            }
            if let problem { Text(verbatim: problem).font(.footnote) }
        } footer: {
            if plan.kind == .classifier, plan.picture != nil {
                Text("On your computer: coreproof compare … --import device.json")
            }
        }
        .fileExporter(isPresented: $choosing, document: saving, contentType: .json, defaultFilename: "device") { done in
            if case .failure(let error) = done { problem = error.localizedDescription } else { problem = nil }
        }
    }
}

private struct ResultSection: View {
    let plan: Plan
    let result: ProcessorResult

    var body: some View {
        Section(result.processor) {
            if plan.kind == .classifier {
                Row("Same first class", "\(result.agreeing) of \(result.outcomes.count)")
            } else {
                Row("Typical difference, worst sample", result.typical.formatted(.percent.precision(.significantDigits(2))))
            }
            Row("Largest difference", result.largest.formatted(.number.precision(.significantDigits(2))))
            Row("Time of a prediction", "\(result.milliseconds.formatted(.number.precision(.fractionLength(1)))) ms")
            if !result.troubles.isEmpty {
                DisclosureGroup("\(result.troubles.count) that differ") {
                    ForEach(result.troubles, id: \.self) { Text(verbatim: $0).font(.footnote) }
                }
            }
        }
    }
}

private struct Row: View {
    let name: String
    let value: String

    init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }

    var body: some View {
        LabeledContent(name) { Text(verbatim: value).monospacedDigit() }
    }
}

/// device.json as the file exporter writes it.
private struct DeviceFile: FileDocument {
    static var readableContentTypes: [UTType] { [.json] }
    let data: Data

    init?(_ url: URL) {
        guard let data = try? Data(contentsOf: url) else { return nil }
        self.data = data
    }

    init(configuration: ReadConfiguration) throws {
        data = configuration.file.regularFileContents ?? Data()
    }

    func fileWrapper(configuration: WriteConfiguration) throws -> FileWrapper {
        FileWrapper(regularFileWithContents: data)
    }
}
